"""What a layer holds beside its configuration, taken over by its copy.

Weights are not all: statistics and vocabularies that Keras saves by hooks of a layer, flags of
single variables, and the seeds of random numbers belong to the program, too.
"""

import tempfile

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.composite import unlisted_variables
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.constraints import hand_on_what_was_set
from resrep_keras.surgery.held import (
    has_assets,
    has_state_hooks,
    layer_tree,
    of_keras,
    own_variables,
)


def copy_state(original, copy, new_weights=None):
    """Give a built copy of a layer all that the layer holds.

    Args:
        original: The layer; it is left as it is.
        copy: A layer of the same class, built.
        new_weights: Values in the order of the copy's weights that stand for those of the original.
            Defaults to those of the original.

    Raises:
        ValueError: The copy has made other weights than the original.
    """
    if not is_layer(original) or not is_layer(copy):
        return
    pairs = list(zip(layer_tree(original), layer_tree(copy)))
    new = None if new_weights is None else list(new_weights)
    _check_number(original, copy, original.weights if new is None else new)
    for before, after in pairs:
        _copy_saved_state(before, after, _values(original, new))
    if new is None:
        for before, after in pairs:
            for variable, weight in _same_variables(before, after):
                # A copy of the array: on JAX, training the one model deletes it.
                weight.assign(ops.copy(variable))
    else:
        copy.set_weights(new)
        for before, after in pairs:
            hand_on_what_was_set(before, _same_variables(before, after))
    _copy_other_variables(original, copy)
    _copy_flags(pairs, describe=new is None)


def copy_adapted_state(original, copy):
    """Give a copy with fresh weights what is no weight: statistics of the data, vocabularies."""
    if is_layer(original) and is_layer(copy):
        pairs = list(zip(layer_tree(original), layer_tree(copy)))
        for before, after in pairs:
            if not any(variable.trainable for variable in own_variables(before)):
                _copy_saved_state(before, after, {})
        _copy_flags(pairs, describe=True)


def _check_number(original, copy, values):
    if len(copy.weights) != len(values):
        raise ValueError(
            f"Layer '{original.name}' of type {type(original).__name__} has {len(values)} weights, "
            f"and its copy, made by get_config() and build(), has {len(copy.weights)}. Make all "
            "weights in the constructor or in build(), the same ones each time."
        )


def _values(original, new):
    """``{id of a weight: value that stands for it}``."""
    if new is None or len(new) != len(original.weights):
        return {}
    return {id(weight): value for weight, value in zip(original.weights, new)}


def _copy_saved_state(original, copy, values):
    """Through the hooks by which Keras saves and loads the layer, where it has such."""
    if has_state_hooks(original):
        store = {}
        original.save_own_variables(store)
        copy.load_own_variables(
            {key: _array(values.get(id(value), value)) for key, value in store.items()}
        )
    if has_assets(original):
        with tempfile.TemporaryDirectory() as folder:
            original.save_assets(folder)
            copy.load_assets(folder)


def _array(value):
    return np.asarray(ops.convert_to_numpy(value))


def _copy_other_variables(original, copy):
    """Variables that are no weights: the state of random generators, say."""
    others = []
    for layer in (original, copy):
        weights = set(map(id, layer.weights))
        rest = [variable for variable in layer.variables if id(variable) not in weights]
        others.append([*rest, *unlisted_variables(layer)])
    for ours, theirs in zip(*others):
        if ours.shape == theirs.shape:
            theirs.assign(ops.copy(ours))


def _copy_flags(pairs, describe):
    """Which layers and variables train; with `describe`, how their variables are held in check."""
    for original, copy in pairs:
        if copy.trainable != original.trainable:
            copy.trainable = original.trainable  # sets all variables, too
    for original, copy in pairs:
        for before, after in _same_variables(original, copy):
            if after.trainable != before.trainable:
                after.trainable = before.trainable
            if describe:
                after.regularizer, after.constraint = before.regularizer, before.constraint


def _same_variables(original, copy):
    """Pairs of variables of two layers, by name where one has more, or makes them in other order.

    A layer that is built as a quantised one has its scales before its kernel, say.
    """
    before, after = own_variables(original), own_variables(copy)
    if [tuple(v.shape) for v in before] == [tuple(v.shape) for v in after]:
        return zip(before, after)
    named = {variable.name: variable for variable in after}
    return [(v, named[v.name]) for v in before if v.name in named]


# --- initializers --------------------------------------------------------------------------------


class _Postponed(keras.initializers.Initializer):
    """Stands for an initializer whose values would be overwritten at once; notes the shapes."""

    def __init__(self, initializer, asked=None):
        self.initializer = initializer
        self.asked = [] if asked is None else asked

    def __call__(self, shape, dtype=None, **kwargs):
        self.asked.append((tuple(shape), dtype))
        return ops.zeros(shape, dtype)

    def get_config(self):  # by which a layer hands it on to layers that it makes
        return {"initializer": self.initializer, "asked": self.asked}

    def clone(self):
        return self


class PostponedInitializers:
    """While a copy is built, its initializers are not asked: its weights are set anyway.

    So that no array of the dense layer's shape stands against a narrower copy.
    """

    def __init__(self, copy):
        self._places = [] if not is_layer(copy) else list(_initializers(copy))
        for attributes, key, initializer in self._places:
            attributes[key] = _Postponed(initializer)

    def put_back(self):
        """Give the built copy its initializers, zeros for those that cannot make its shapes.

        A file of the copy could not be loaded otherwise: layers are built before they get weights.
        """
        for attributes, key, initializer in self._places:
            makes = all(_makes(initializer, *asked) for asked in attributes[key].asked)
            attributes[key] = initializer if makes else keras.initializers.Zeros()


def _initializers(layer):
    """Triples `(attributes, key, initializer)` of a layer and those that it holds."""
    for each in layer_tree(layer):
        for key, value in list(vars(each).items()):
            if key.endswith("_initializer") and callable(value):
                yield vars(each), key, value


def lost_initializers(original, copy):
    """Beginnings of the names of variables that a copy could not initialise like the original."""
    return tuple(
        key.removeprefix("_").removesuffix("_initializer")
        for (_, key, before), (_, _, after) in zip(_initializers(original), _initializers(copy))
        if type(before) is not type(after)
    )


def _makes(initializer, shape, dtype):
    """Whether an initializer makes values of a shape."""
    if of_keras(initializer):
        if not isinstance(initializer, keras.initializers.Constant):
            return True
        value = np.shape(initializer.value)
        pairs = zip(reversed(value), reversed(shape))
        return len(value) <= len(shape) and all(a in (1, b) for a, b in pairs)
    try:
        return tuple(np.shape(initializer(shape, dtype=dtype))) == shape
    except Exception:  # of the user's own code, of any kind: it makes no such shape
        return False
