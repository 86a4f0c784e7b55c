"""Calls that compute the same but for the values of weights: what one shows holds for others."""

import keras

from resrep_keras.graph.composite import sublayers
from resrep_keras.graph.inheritance import changed_on_object
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.own_objects import own_objects

FEW = 8  # positions along an axis that are tried at first
PLAIN = (bool, int, float, str, type(None))


def alike_key(call):
    """What is equal for calls that are alike; `None` for what is like no other.

    That are a layer's class, configuration, weights and other plain attributes, and what it is
    called on. Functions of the user's own, and layers inside, may differ unseen.
    """
    if "alike" not in call.memo:
        call.memo["alike"] = _alike_key(call)
    return call.memo["alike"]


def _alike_key(call):
    layer = call.operation
    if not is_layer(layer) or sublayers(layer):
        return None
    try:
        config = layer.get_config()
        if own_objects(layer).functions or changed_on_object(layer):
            return None
    except Exception:  # a user's own code may fail in any way
        return None
    plain = {key: value for key, value in vars(layer).items() if type(value) in PLAIN}
    told = {
        key: value
        for key, value in {**config, **plain}.items()
        if not (type(value) is str and layer.name in value.split("/"))
    }
    weights = [(tuple(w.shape), w.dtype, w.trainable) for w in layer.weights]
    given = keras.tree.map_structure(_described, (call.args, call.kwargs))
    return type(layer), repr(told), repr(weights), repr(given)


def relatives_key(call, width):
    """What is equal for calls that differ in their number of channels alone; `None` as above.

    How many positions there are does not count: each is tried once at its own.
    """
    if alike_key(call) is None:
        return None
    layer = call.operation

    def without(value):
        return "width" if type(value) is int and value == width else value

    told = {
        key: without(value)
        for key, value in {**layer.get_config(), **vars(layer)}.items()
        if type(value) in PLAIN and not (type(value) is str and layer.name in value.split("/"))
    }
    weights = [(tuple(map(without, w.shape)), w.dtype, w.trainable) for w in layer.weights]

    def described(value):
        sizes = ["width" if n == width else n and "any" for n in _sizes(value)]
        return (sizes, value.dtype) if is_symbolic(value) else repr(value)

    given = keras.tree.map_structure(described, (call.args, call.kwargs))
    return type(layer), repr(told), repr(weights), repr(given)


def _sizes(value):
    return value.shape if is_symbolic(value) else ()


def _described(value):
    return (tuple(value.shape), value.dtype) if is_symbolic(value) else repr(value)
