"""Rows times matrix is what a layer makes, whatever it reads and wherever it stands."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.flow import rule_of
from resrep_keras.surgery.linear import Windows, linear_of

IMAGE, SEQUENCE, VOLUME = (7, 6, 3), (9, 3), (5, 4, 6, 2)
CASES = {
    "dense": (lambda: layers.Dense(4), (5,)),
    "dense of images": (lambda: layers.Dense(4, use_bias=False), IMAGE),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d"), (5, 3)),
    "einsum, outputs first": (lambda: layers.EinsumDense("abc,dc->abd", (None, 4)), (5, 3)),
    "einsum, another axis": (lambda: layers.EinsumDense("abc,bd->acd", (None, 4)), (5, 3)),
    "valid": (lambda: layers.Conv2D(4, (3, 2)), IMAGE),
    "same": (lambda: layers.Conv2D(4, 3, padding="same"), IMAGE),
    "same, strides": (lambda: layers.Conv2D(4, (3, 4), 2, padding="same"), IMAGE),
    "large strides": (lambda: layers.Conv2D(4, 1, 3, padding="same"), IMAGE),
    "valid, strides": (lambda: layers.Conv2D(4, 3, (2, 1)), IMAGE),
    "dilation": (lambda: layers.Conv2D(4, 3, padding="same", dilation_rate=2), IMAGE),
    "causal": (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), SEQUENCE),
    "causal, strides": (lambda: layers.Conv1D(4, 3, 2, padding="causal"), SEQUENCE),
    "volume": (lambda: layers.Conv3D(4, 2, (1, 2, 1), padding="same"), VOLUME),
    "separable": (lambda: layers.SeparableConv2D(4, 3, 2, "same", depth_multiplier=2), IMAGE),
    "separable sequence": (lambda: layers.SeparableConv1D(4, 3), SEQUENCE),
    "transposed, same": (lambda: layers.Conv2DTranspose(4, 3, 2, "same"), IMAGE),
    "transposed, valid": (lambda: layers.Conv2DTranspose(4, (3, 2), 2), IMAGE),
    "transposed, apart": (lambda: layers.Conv2DTranspose(4, 2, 3), IMAGE),
    "transposed, at once": (lambda: layers.Conv1DTranspose(4, 4, padding="same"), SEQUENCE),
    "transposed volume": (lambda: layers.Conv3DTranspose(4, 3, 2, "same"), VOLUME),
}


def built(make, shape):
    layer = make()
    layer.build((2, *shape))
    generator = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(generator.normal(size=weight.shape))
    return layer, generator.normal(size=(2, *shape)).astype("float32")


@pytest.mark.parametrize("name", CASES)
def test_rows_times_matrix_is_what_the_layer_makes(name):
    layer, x = built(*CASES[name])
    linear = rule_of(linear_of, layer)(layer)
    grid = linear.reader.grid(x.shape)
    places = np.unravel_index(np.arange(np.prod(grid)), grid)
    rows = linear.reader.rows(x, places)
    assert rows.shape == (np.prod(grid), linear.inputs)
    expected = keras.ops.convert_to_numpy(layer(x)).reshape(-1, 4)
    np.testing.assert_allclose(linear.outputs(rows), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ("dense", "same", "transposed, same", "einsum, outputs first"))
def test_what_is_added_is_added_to_the_matrix(name):
    layer, _ = built(*CASES[name])
    linear = rule_of(linear_of, layer)(layer)
    before = linear.matrix()
    change = np.random.default_rng(1).normal(size=before.shape)
    linear.add(change, np.ones(4))
    np.testing.assert_allclose(linear.matrix(), before + change, atol=1e-5)


def test_channels_may_come_first():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype("float32")
    settings = (3, 3), (2, 1), (1, 1), "same"
    last, first = Windows(3, *settings), Windows(1, *settings)
    grid = last.grid(x.shape)
    swapped = np.moveaxis(x, -1, 1)
    assert first.grid(swapped.shape) == grid
    places = np.unravel_index(np.arange(np.prod(grid)), grid)
    np.testing.assert_array_equal(last.rows(x, places), first.rows(swapped, places))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(4, 3, groups=2),
        layers.DepthwiseConv2D(3),
        layers.Conv2DTranspose(4, 3, 2, output_padding=1),
        layers.EinsumDense("abc,bcd->abd", (5, 4)),
        layers.LSTM(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_have_no_single_matrix(layer):
    layer.build((2, 5, 4) if isinstance(layer, (layers.LSTM, layers.EinsumDense)) else (2, 7, 7, 4))
    assert rule_of(linear_of, layer)(layer) is None
