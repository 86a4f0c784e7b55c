"""Ones out of a tensor, and their parts, keep nothing of what they are made of."""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from tests.rules.calls import SEQUENCE, Answer, changes, mask


def pins(make):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    graph = resrep_keras.trace(keras.Model(inputs, [layers.Conv2D(2, 1)(x), make(x)]))
    group = next(group for group in graph.groups if group.name == "conv")
    return None if group.prunable else str(group.reason)


@pytest.mark.parametrize("function", [ops.ones_like, ops.zeros_like])
def test_a_part_of_one_channel_depends_on_none(function):
    assert pins(lambda x: ops.slice(function(x), (0, 0, 0, 0), (1, 1, 1, 1))) is None
    assert "an output" in pins(function)  # it has as many channels
    assert "an output" in pins(lambda x: ops.slice(function(x), (0, 0, 0, 0), (1, 1, 1, 4)))


def test_a_slice_takes_the_channels_that_are_left():
    answer = Answer(lambda x: ops.slice(x, (0, 1, 1), (1, 2, 3)), SEQUENCE, channels=5)
    assert answer.ids() == [1, 2, 3] and answer.call.outputs[0].shape == (1, 2, 3)
    keep = changes(answer, keep_in=mask(1, 0, 1, 1, 0))
    assert keep == {"start_indices": (0, 1, 1), "shape": (1, 2, 2)}


def test_what_is_made_for_no_example_costs_nothing():
    inputs = keras.Input((5,))
    one = ops.slice(ops.ones_like(inputs), (0, 0), (1, 1))
    x = ops.multiply(layers.Dense(4)(inputs), layers.Dense(4)(one))
    assert resrep_keras.count_macs(keras.Model(inputs, x)) == 5 * 4
