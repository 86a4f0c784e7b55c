"""Ones out of a tensor, and their parts, keep nothing of what they are made of."""

import keras
import pytest
from keras import layers, ops

import resrep_keras


def pins(make):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    graph = resrep_keras.trace(keras.Model(inputs, [layers.Conv2D(2, 1)(x), make(x)]))
    group = next(group for group in graph.groups if group.name == "conv")
    return None if group.prunable else str(group.reason)


@pytest.mark.parametrize("function", [ops.ones_like, ops.zeros_like])
def test_nothing_depends_on_what_they_are_made_of(function):
    assert pins(function) is None
    assert pins(lambda x: ops.slice(function(x), (0, 0, 0, 0), (1, 1, 1, 1))) is None


def test_a_slice_of_channels_keeps_them():
    reason = pins(lambda x: ops.slice(x, (0, 0, 0, 0), (1, 2, 2, 2)))
    assert "a slice of channels by ops.slice; write x[..., a:b] instead" in reason


def test_what_is_made_for_no_example_costs_nothing():
    inputs = keras.Input((5,))
    one = ops.slice(ops.ones_like(inputs), (0, 0), (1, 1))
    x = ops.multiply(layers.Dense(4)(inputs), layers.Dense(4)(one))
    assert resrep_keras.count_macs(keras.Model(inputs, x)) == 5 * 4
