"""Functions and classes of the user's own in the settings of a layer.

Keras writes them into a configuration by name, and finds them again only where they are registered:
a lambda not at all. A copy in memory takes the objects themselves.
"""

import contextlib
import dataclasses
import functools
import inspect

import keras

from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.held import has_config, held_settings, of_keras


@dataclasses.dataclass
class OwnObjects:
    """What the settings of a layer, and of what it holds, have that is not Keras's.

    Args:
        functions: Triples `(attributes of the owner, key, value)` of settings with functions.
        classes: ``{registered name: class}``.
    """

    functions: list
    classes: dict

    @contextlib.contextmanager
    def by_name(self, functions=True):
        """While it lasts, configurations name each object in a way that finds it again.

        Args:
            functions: Whether also functions are named anew, and not classes alone.
        """
        names = dict(self.classes)
        for attributes, key, value in self.functions if functions else ():
            attributes[key] = keras.tree.map_structure(functools.partial(_named, names), value)
        try:
            with keras.saving.custom_object_scope(names):
                yield
        finally:
            for attributes, key, value in self.functions:
                attributes[key] = value


def own_objects(operation):
    """The `OwnObjects` of a layer or operation."""
    found, todo, seen = OwnObjects([], {}), [operation], set()
    while todo:
        owner = todo.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for key, value in held_settings(owner).items():
            parts = keras.tree.flatten(value)
            if any(map(_is_own_function, parts)):
                found.functions.append((vars(owner), key, value))
            for part in filter(has_config, parts):
                if not of_keras(part) and not _is_own_function(part):
                    found.classes[keras.saving.get_registered_name(type(part))] = type(part)
                if is_layer(part) or not of_keras(part):
                    todo.append(part)
    return found


def _is_own_function(value):
    """Whether a setting is called, and has no configuration that could tell it."""
    if not callable(value) or inspect.isclass(value) or is_layer(value):
        return False
    if of_keras(value):
        return inspect.isfunction(value) and _is_read_as_another(value)
    try:
        return not (has_config(value) and value.get_config() is not None)
    except NotImplementedError:
        return True


def _is_read_as_another(function):
    """Whether Keras writes a function by a name that means another one, as `ops.gelu` is "gelu"."""
    return vars(keras.activations).get(function.__name__, function) is not function


def _named(names, value):
    """A function that stands for another one, under a name of its own."""
    if not _is_own_function(value):
        return value

    def stand_in(*args, **kwargs):
        return value(*args, **kwargs)

    stand_in.__name__ = stand_in.__qualname__ = f"own_function_{len(names)}"
    stand_in.__module__ = __name__
    names[stand_in.__name__] = value
    return stand_in
