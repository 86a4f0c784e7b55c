"""Settings that differ between layers: by name, pattern or a function of the layer."""

import fnmatch
import inspect


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
        named = inspect.isroutine(exclude) or inspect.isclass(exclude)
        if not named or not exclude.__name__.isidentifier():
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
                f"Expected the entries of exclude to be layer names or patterns; got {pattern!r} "
                f"of type {type(pattern).__name__}."
            )
    return exclude


def ask_exclude(function, layer):
    """Whether a user's function wants all channels of a layer kept.

    Raises:
        TypeError: The function failed.
    """
    try:
        return bool(function(layer))
    except Exception as error:  # whatever a user's function raises
        raise TypeError(
            f"Expected exclude to be a function that takes a layer and returns whether it keeps "
            f"all channels; for layer '{layer.name}' of type {type(layer).__name__} it raised "
            f"{type(error).__name__}: {error}"
        ) from error
