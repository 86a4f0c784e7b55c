"""The weights that make each channel: on which axis of which variable."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.surgery.channel_weights import (
    producing_variable,
    producing_weights,
    reading_variable,
)

CASES = {
    "dense": (lambda: layers.Dense(5), (None, 3), (3, 5)),
    "convolution": (lambda: layers.Conv2D(5, (2, 3)), (None, 8, 8, 4), (2, 3, 4, 5)),
    "transposed": (lambda: layers.Conv1DTranspose(5, 2), (None, 8, 4), (2, 4, 5)),
    "separable": (lambda: layers.SeparableConv2D(5, 3), (None, 8, 8, 4), (1, 1, 4, 5)),
    "embedding": (lambda: layers.Embedding(7, 5), (None, 2), (7, 5)),
    "einsum": (lambda: layers.EinsumDense("ab,cb->ac", 5), (None, 3), (3, 5)),
    # Four gates of a unit, each of 3 inputs and 5 units.
    "lstm": (lambda: layers.LSTM(5), (None, 2, 3), (4 * (3 + 5), 5)),
    "both directions": (
        lambda: layers.Bidirectional(layers.GRU(5)),
        (None, 2, 3),
        (2 * 3 * (3 + 5), 5),
    ),
}


def built(name):
    make, shape, weights = CASES[name]
    layer = make()
    layer.build(shape)
    return layer, weights


@pytest.mark.parametrize("name", CASES)
def test_channels_are_the_last_axis(name):
    layer, shape = built(name)
    found = rule_of(producing_weights, layer)(layer)
    assert found.shape[-1] == shape[-1] and found.size == np.prod(shape)


@pytest.mark.parametrize("name", ["dense", "convolution", "transposed", "separable", "einsum"])
def test_a_channel_switched_off_is_a_channel_of_zeros(name):
    layer, shape = built(name)
    variable, axis = rule_of(producing_variable, layer)(layer)
    values = np.moveaxis(ops.convert_to_numpy(variable).copy(), axis, -1)
    values[..., 2] = 0
    variable.assign(np.moveaxis(values, -1, axis))
    x = np.random.default_rng(0).normal(size=(2, *CASES[name][1][1:])).astype("float32")
    outputs = ops.convert_to_numpy(layer(x)).reshape(-1, shape[-1])
    assert [bool(column.any()) for column in outputs.T] == [True, True, False, True, True]


@pytest.mark.parametrize("name", ["dense", "convolution", "transposed", "separable", "einsum"])
def test_a_channel_that_is_not_read_changes_nothing(name):
    layer, _ = built(name)
    variable, axis = rule_of(reading_variable, layer)(layer)
    shape = CASES[name][1]
    assert variable.shape[axis] == shape[-1]
    values = np.moveaxis(ops.convert_to_numpy(variable).copy(), axis, -1)
    values[..., 1] = 0
    variable.assign(np.moveaxis(values, -1, axis))
    x = np.random.default_rng(0).normal(size=(2, *shape[1:])).astype("float32")
    for channel in range(shape[-1]):
        other = x.copy()
        other[..., channel] += 1
        same = np.array_equal(*(ops.convert_to_numpy(layer(each)) for each in (x, other)))
        assert same == (channel == 1)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Conv2D(4, 3, groups=2), (None, 8, 8, 4)),
        (layers.DepthwiseConv2D(3), (None, 8, 8, 4)),
        (layers.SeparableConv2D(4, 3, depth_multiplier=2), (None, 8, 8, 4)),
        (layers.LSTM(4), (None, 3, 4)),
    ],
)
def test_what_reads_channels_by_more_than_one_entry_is_not_known(layer, shape):
    layer.build(shape)
    assert rule_of(reading_variable, layer)(layer) is None


def test_a_layer_without_a_kernel_is_not_known():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    assert rule_of(reading_variable, norm)(norm) is None
    assert rule_of(producing_variable, norm)(norm) is None
    assert rule_of(producing_weights, norm)(norm) is None


def test_kinds_of_inner_channels_of_attention():
    layer = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4)
    x = keras.Input((5, 6))
    layer(x, x)
    shapes = {}
    for inside in (None, "heads", "value", "key"):
        weights = rule_of(producing_weights, layer)(layer, inside)
        shapes[inside] = weights.shape[-1]
    assert shapes == {None: 6, "heads": 2, "value": 4, "key": 3}
