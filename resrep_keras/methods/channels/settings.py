"""Settings of methods: targets, and what may differ between layers by name, pattern or function."""

import fnmatch
import math

from resrep_keras.common.checks import check_number
from resrep_keras.costs.quantities import QUANTITIES


def check_per_layer(name, value, check):
    """Check a setting that is one value for all layers, or ``{pattern: value}``.

    Args:
        name: Name of the argument.
        value: What was given for it.
        check: Raises where one value is wrong.

    Raises:
        TypeError: A pattern is not a str.
    """
    for pattern, one in value.items() if isinstance(value, dict) else [("*", value)]:
        if not isinstance(pattern, str):
            raise TypeError(
                f"Expected {name} to map names or patterns of layers to values; got the key "
                f"{pattern!r} of type {type(pattern).__name__}."
            )
        check(one)


def for_layer(setting, layer, default):
    """The value of a setting for one layer: an exact name goes first, then the first pattern."""
    if not isinstance(setting, dict):
        return setting
    if layer in setting:
        return setting[layer]
    matching = (value for pattern, value in setting.items() if matches(layer, pattern))
    return next(matching, default)


def matches(layer, pattern):
    """Whether the name of a layer is, or fits, a pattern such as ``"block1_*"``."""
    return layer == pattern or fnmatch.fnmatchcase(layer, pattern)


def check_patterns(name, setting, known):
    """Raise where a pattern of a setting fits none of the `known` layers.

    Raises:
        ValueError: Names the pattern and the layers.
    """
    for pattern in setting:
        if not any(matches(layer, pattern) for layer in known):
            raise ValueError(
                f"Expected each entry of {name} to be the name, or a pattern of names, of layers "
                f"that make channels ({', '.join(known)}); got '{pattern}'."
            )


def check_exclude(exclude):
    """Return the setting as a tuple of patterns, or a function of a layer.

    Raises:
        TypeError: Neither of these, or a function that cannot be saved with the model.
    """
    if isinstance(exclude, str):
        raise TypeError(f"Expected exclude to be a list of layer names; got the str {exclude!r}.")
    if callable(exclude):
        if not getattr(exclude, "__name__", "<lambda>").isidentifier():
            raise TypeError(
                "Expected exclude to be a function with a name, so that it can be saved with the "
                "model; got a lambda. Define it with def, and decorate it with "
                "keras.saving.register_keras_serializable() where the model will be reloaded."
            )
        return exclude
    try:
        exclude = tuple(exclude)
    except TypeError as error:
        raise TypeError(
            "Expected exclude to be a list of layer names or patterns, or a function that takes a "
            f"layer; got {exclude!r} of type {type(exclude).__name__}."
        ) from error
    for pattern in exclude:
        if not isinstance(pattern, str):
            raise TypeError(
                f"Expected the entries of exclude to be layer names or patterns; got {pattern!r} of "
                f"type {type(pattern).__name__}."
            )
    return exclude


def check_count(name, value):
    check_number(name, value, at_least=1, whole=True)


def check_min_share(value):
    check_number("min_share", value, at_least=0, below=1)


def minimum_of(channels, min_channels, min_share):
    """How many of its channels a layer keeps at least."""
    return min(channels, max(1, min_channels, math.ceil(min_share * channels)))


def check_multiple(value):
    if value != "auto":
        check_count("channel_multiple", value)


def multiples(number, channels):
    """The numbers of channels that a layer of so many may keep: multiples, or all of them."""
    return (*range(number, channels, number), channels)


def ask_exclude(function, layer):
    """Whether a user's function wants all channels of a layer kept.

    Raises:
        TypeError: The function failed.
    """
    try:
        return bool(function(layer))
    except Exception as error:  # whatever a user's function raises
        raise TypeError(
            f"Expected exclude to be a function that takes a layer and returns whether it keeps all "
            f"channels; for layer '{layer.name}' of type {type(layer).__name__} it raised "
            f"{type(error).__name__}: {error}"
        ) from error


def check_input_shape(shape):
    """Return the shape of one input as a tuple of sizes, or `None`."""
    if shape is None:
        return None
    if isinstance(shape, str) or not hasattr(shape, "__iter__"):
        raise TypeError(
            f"Expected input_shape to be a tuple such as (224, 224, 3); got {shape!r} of type "
            f"{type(shape).__name__}."
        )
    shape = tuple(shape)
    for size in shape:
        check_number("each size of input_shape", size, at_least=1, whole=True)
    return shape


# --- targets --------------------------------------------------------------------------------------


def check_reduction(value):
    """Return a `target_reduction` as it is kept: a float, ``{quantity: float}`` or `None`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        check_number("target_reduction", value, above=0, below=1)
        return float(value)
    if not value:
        raise ValueError("Expected target_reduction to name a quantity; got an empty dict.")
    for name, share in value.items():
        check_quantity("target_reduction", name)
        check_number(f"target_reduction['{name}']", share, above=0, below=1)
    return {name: float(share) for name, share in value.items()}


def check_at_most(value):
    """Return `at_most` as a dict of positive numbers."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(
            f"Expected at_most to be a dict such as {{'file_bytes': 400_000}}; got {value!r} of type "
            f"{type(value).__name__}."
        )
    for name, number in value.items():
        check_quantity("at_most", name)
        check_number(f"at_most['{name}']", number, above=0)
    return dict(value)


def check_quantity(argument, name):
    if name not in QUANTITIES:
        raise ValueError(
            f"Expected {argument} to name one of {', '.join(sorted(QUANTITIES))}; got {name!r}."
        )
