"""Differences by hand, and what stands in front of outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.record import record
from resrep_keras.surgery.forward import play
from resrep_keras.surgery.heads import UNKNOWN, Heads, difference, without_activation

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("expected", "found", "absolute", "relative"),
    [
        ([1.0, 4.0], [1.0, 3.0], 1, 1 / 4),
        ([NAN, 4.0], [NAN, 3.0], 1, 1 / 4),
        ([NAN, 4.0], [4.0, 4.0], INF, INF),
        ([4.0, 4.0], [NAN, 4.0], INF, INF),
        ([INF, -INF, 2.0], [INF, -INF, 1.0], 1, 1 / 2),
        ([INF, 2.0], [-INF, 2.0], INF, INF),
        ([], [], 0, 0),
    ],
)
def test_a_number_in_one_of_two_is_far(expected, found, absolute, relative):
    answer = difference(np.array(expected), np.array(found))
    assert (answer.absolute, answer.relative) == (absolute, relative)


def test_nothing_but_nan_tells_nothing():
    assert difference(np.full(3, NAN), np.full(3, NAN)) is UNKNOWN


def test_heads_are_what_comes_behind_the_last_weights():
    inputs = keras.Input((3,))
    x = layers.Dense(4, activation="relu", name="hidden")(inputs)
    logits = layers.Dense(2, activation="softmax", name="head")(x)
    model = keras.Model(inputs, layers.Rescaling(2.0, name="double")(logits))
    heads = Heads(record(model))
    x = ops.ones((2, 3))
    output = play(heads.recording, x, around=heads)
    assert heads.values.keys() == {("head", 0, False), ("head", 0, True), ("double", 0, False)}
    head = model.get_layer("head")
    hidden = model.get_layer("hidden")(x)
    expected = ops.convert_to_numpy(ops.matmul(hidden, head.kernel) + head.bias)
    np.testing.assert_allclose(heads.values["head", 0, True], expected, rtol=1e-5)
    np.testing.assert_array_equal(heads.values["double", 0, False], output)
    assert head.activation is keras.activations.softmax


def test_an_activation_that_is_not_last_is_left_alone():
    model = keras.Sequential([keras.Input((3, 2)), layers.LSTM(4, name="lstm")])
    heads = Heads(record(model))
    play(heads.recording, ops.ones((2, 3, 2)), around=heads)
    assert heads.values.keys() == {("lstm", 0, False)}
    assert model.get_layer("lstm").activation is keras.activations.tanh


def test_an_activation_comes_back_after_an_error():
    layer = layers.TimeDistributed(layers.Dense(2, activation="relu"))
    with pytest.raises(RuntimeError), without_activation(layer) as activation:
        assert activation is keras.activations.relu
        raise RuntimeError
    assert layer.layer.activation is keras.activations.relu
    with without_activation(layers.Dense(2)) as activation:
        assert activation is None
