"""Settings that differ between layers: by name, pattern or a function of the layer."""

import fnmatch
import inspect

from resrep_keras.common.checks import came, check_instance


def check_per_layer(name, value, check):
    """Return a setting that is one value for all layers, or ``{pattern: value}``.

    Args:
        name: Name of the argument.
        value: What was given for it.
        check: A function of the name and one value, which returns it as it is kept.

    Raises:
        TypeError: A pattern is not a str.
    """
    if not isinstance(value, dict):
        return check(name, value)
    for pattern in value:
        if not isinstance(pattern, str):
            raise TypeError(
                f"Expected {name} to map names or patterns of layers to values; {came(pattern)} as "
                "a key."
            )
    return {pattern: check(f"{name}[{pattern!r}]", one) for pattern, one in value.items()}


def for_layer(setting, layer, default, around=()):
    """The value of a setting for one layer: an exact name goes first, then the first pattern.

    Args:
        setting: One value for all layers, or ``{name or pattern: value}``.
        layer: Name of the layer.
        default: The value where nothing fits.
        around: Names of the models and layers around it, the outermost first. What fits the layer
            itself goes before what fits one of these, and the inner ones before the outer ones.
    """
    if not isinstance(setting, dict):
        return setting
    for name in (layer, *reversed(around)):
        if name in setting:
            return setting[name]
        for pattern, value in setting.items():
            if matches(name, pattern):
                return value
    return default


def matches(layer, pattern):
    """Whether the name of a layer is, or fits, a pattern such as ``"block1_*"``."""
    return layer == pattern or fnmatch.fnmatchcase(layer, pattern)


def is_named(layer, patterns, around=()):
    """Whether a layer, or a model or layer around it, fits one of the patterns."""
    return any(matches(name, pattern) for pattern in patterns for name in (layer, *around))


def check_patterns(name, setting, known):
    """Raise where a pattern of a setting fits none of the `known` layers, and nothing around them.

    Args:
        name: Name of the setting.
        setting: Its patterns.
        known: ``{layer: names of the models and layers around it}``.

    Raises:
        ValueError: Names the pattern and the layers.
    """
    outer = dict.fromkeys(other for around in known.values() for other in around)
    for pattern in setting:
        if not any(matches(layer, pattern) for layer in (*known, *outer)):
            within = f", or of what they stand in ({', '.join(outer)})" if outer else ""
            raise ValueError(
                f"Expected each entry of {name} to be the name, or a pattern of names, of layers "
                f"that make channels ({', '.join(known)}){within}; got '{pattern}'."
            )


def check_exclude(name, exclude):
    """Return the setting as a tuple of patterns, or a function of a layer.

    Raises:
        TypeError: Neither of these, or a function that cannot be saved with the model.
    """
    if not callable(exclude):
        return check_names(name, exclude, "or a function that takes a layer")
    if not inspect.isroutine(exclude) or not exclude.__name__.isidentifier():
        raise TypeError(
            f"Expected {name} to be a list of layer names or patterns, or a function with a name, "
            f"so that it can be saved with the model; {came(exclude)}. Define it with def, and "
            "decorate it with keras.saving.register_keras_serializable() where the model will be "
            "reloaded."
        )
    return exclude


def check_names(name, value, other=""):
    """Return names and patterns as a tuple; `other` says what else may be given.

    Raises:
        TypeError: Something else, or a single text.
    """
    words = ", ".join(filter(None, ["a list of layer names or patterns", other]))
    check_instance(name, value, (list, tuple, set, frozenset), words)
    for pattern in value:
        if not isinstance(pattern, str):
            raise TypeError(
                f"Expected the entries of {name} to be layer names or patterns; {came(pattern)}."
            )
    return tuple(sorted(value) if isinstance(value, (set, frozenset)) else value)


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
