"""What a model applies last, read off its recording."""

import keras
import pytest
from keras import layers, ops

from resrep_keras.graph.last_activation import LastActivation, last_activations
from resrep_keras.graph.trace import recording_of

SOFTMAX, SIGMOID = keras.activations.softmax, keras.activations.sigmoid
HEADS = {
    "logits": (lambda x: layers.Dense(3)(x), None, -1),
    "activation": (lambda x: layers.Dense(3, activation="softmax")(x), SOFTMAX, -1),
    "layer": (lambda x: layers.Softmax()(layers.Dense(3)(x)), SOFTMAX, -1),
    "operation": (lambda x: ops.softmax(layers.Dense(3)(x)), SOFTMAX, -1),
    "function": (lambda x: keras.activations.sigmoid(layers.Dense(3)(x)), SIGMOID, -1),
    "float32": (
        lambda x: layers.Activation("linear", dtype="float32")(layers.Softmax()(x)),
        SOFTMAX,
        -1,
    ),
    "named": (lambda x: layers.Identity(name="y")(layers.Activation("sigmoid")(x)), SIGMOID, -1),
    "other axis": (lambda x: layers.Softmax(axis=1)(x), SOFTMAX, 1),
    "last axis": (lambda x: layers.Softmax(axis=2)(x), SOFTMAX, -1),
    "wrapped": (lambda x: layers.TimeDistributed(layers.Dense(3, activation="relu"))(x), "relu", 0),
    "something behind": (lambda x: 2 * layers.Softmax()(x), None, -1),
    "input": (lambda x: x, None, -1),
}


@pytest.mark.parametrize("head", HEADS)
def test_one_output(head):
    make, function, axis = HEADS[head]
    if function == "relu":
        function, axis = keras.activations.relu, -1
    x = keras.Input((4, 2))
    (found,) = last_activations(recording_of(keras.Model(x, make(x))))
    assert found == LastActivation(function, axis)


def test_several_outputs_in_their_order():
    x = keras.Input((2,))
    outputs = {"b": layers.Dense(1, activation="sigmoid")(x), "a": layers.Dense(2)(x)}
    found = last_activations(recording_of(keras.Model(x, outputs)))
    assert [each.function for each in found] == [None, SIGMOID]
