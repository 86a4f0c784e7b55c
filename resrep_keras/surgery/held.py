"""What a layer holds: settings, layers, variables, and what Keras saves in a way of its own."""

import functools
import inspect

import keras

from resrep_keras.graph.composite import sublayers


def of_keras(value):
    """Whether a class, a function or the class of an object is Keras's own."""
    module = value.__module__ if inspect.isroutine(value) else None
    kind = value if inspect.isclass(value) else type(value)
    return (module or kind.__module__).split(".")[0] == "keras"


@functools.cache
def _constructor_arguments(kind):
    """Names of the arguments of the constructors of a class and its bases."""
    constructors = [
        vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base)
    ]
    names = {name for function in constructors for name in inspect.signature(function).parameters}
    return frozenset(names - {"self", "args", "kwargs"})


def held_settings(owner):
    """``{attribute: value}`` of those attributes that are called like a constructor's argument."""
    names = _constructor_arguments(type(owner))
    return {key: value for key, value in vars(owner).items() if key.removeprefix("_") in names}


def settings_that_differ(layer, copy, changed=()):
    """Triples `(setting, value, value of the copy)` of plain settings that a copy has otherwise.

    Of layers of the user's own, which may forget an argument in their configuration: what matters
    in training only shows in no output.

    Args:
        layer: The layer.
        copy: Its copy, made from its configuration.
        changed: Names of the settings that were changed.
    """
    for before, after in zip(layer_tree(layer), layer_tree(copy)):
        if of_keras(before) or type(before) is not type(after):
            continue
        found = held_settings(after)
        for key, value in held_settings(before).items():
            plain = _is_plain(value) and key in found and _is_plain(found[key])
            if plain and found[key] != value and key.removeprefix("_") not in changed:
                yield key, value, found[key]


def _is_plain(value):
    parts = value if type(value) in (list, tuple) else (value,)
    return all(type(part) in (bool, int, float, str) for part in parts)


def has_config(value):
    """Whether an object is made from a configuration, as layers, initializers and the like are."""
    return hasattr(value, "get_config") and not inspect.isclass(value)


def layer_tree(layer):
    """A layer and those that it holds, at any depth, in the same order for each copy."""
    return [layer, *sublayers(layer)]


def own_variables(layer):
    """The weights that a layer has made itself, without those of layers that it holds."""
    others = {id(weight) for each in sublayers(layer) for weight in each.weights}
    return [weight for weight in layer.weights if id(weight) not in others]


_ONLY_WEIGHTS = (
    keras.layers.Layer,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
)


def has_state_hooks(layer):
    """Whether Keras saves and loads more of a layer than its weights, or in another form."""
    kind = type(layer)
    loads = {base.load_own_variables for base in _ONLY_WEIGHTS}
    saves = {base.save_own_variables for base in _ONLY_WEIGHTS}
    return not (kind.load_own_variables in loads and kind.save_own_variables in saves)


def has_assets(layer):
    """Whether Keras saves files of a layer, such as a vocabulary."""
    return hasattr(layer, "save_assets") and hasattr(layer, "load_assets")
