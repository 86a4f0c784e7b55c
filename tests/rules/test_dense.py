"""Dense, EinsumDense and Embedding by hand."""

import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.flow import rule_of
from resrep_keras.rules.dense import EinsumAxes
from resrep_keras.surgery.channel_weights import producing_variable
from resrep_keras.surgery.narrow import narrow, weights_of
from resrep_keras.surgery.outputs import Mixed
from tests.rules.calls import ROW, SEQUENCE, Answer, built, mask, part


def narrowed(layer, *args, **kwargs):
    return rule_of(narrow, layer)(layer, part(*args, **kwargs))


def test_a_dense_layer_makes_channels_and_folds_constants():
    answer = Answer(layers.Dense(2), ROW, activation="sigmoid")
    assert answer.ids() == [3, 4]
    assert not answer.pins("no bias can hold")


def test_a_matrix_mixes_the_outputs_and_a_shift_is_added():
    layer = built(layers.Dense(2), 3)
    mix = np.array([[1.0, 2.0], [3.0, 4.0]])
    shift = np.array([5.0, 6.0])
    config, (kernel, bias) = narrowed(layer, mask(1, 1, 1), Mixed(mask(1, 1), mix), shift=shift)
    old = weights_of(layer)
    np.testing.assert_allclose(kernel, old["kernel"] @ mix)
    np.testing.assert_allclose(bias, old["bias"] @ mix + shift)
    assert config == {"units": 2, "use_bias": True}


@pytest.mark.parametrize(
    ("equation", "shape", "axes"),
    [
        ("abc,cd->abd", (None, 4), (-1, -1, -2, -1)),
        ("abc,dc->abd", (None, 4), (-1, -1, -1, -2)),
        ("...x,xy->...y", 4, (-1, -1, -2, -1)),
        ("abc,bd->adc", (4, None), (-2, -2, -2, -1)),
    ],
)
def test_an_equation_says_where_channels_are_read_and_made(equation, shape, axes):
    found = EinsumAxes(layers.EinsumDense(equation, shape))
    assert found.simple and not found.per_position
    assert (found.input, found.output, found.kernel_in, found.kernel_out) == axes


def test_channels_along_several_axes_are_pinned():
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 2))
    assert not EinsumAxes(layer).simple
    assert Answer(layer, SEQUENCE).pins("along several axes")


def test_an_einsum_is_narrowed_along_its_axes():
    layer = built(layers.EinsumDense("abc,dc->abd", (None, 4), bias_axes="d"), 5, 3)
    keep_out = mask(1, 0, 1, 0)
    config, (kernel, bias) = narrowed(layer, mask(0, 1, 1), keep_out)
    np.testing.assert_array_equal(kernel, weights_of(layer)["kernel"][keep_out][:, 1:])
    assert config == {"output_shape": (None, 2), "bias_axes": "d"} and bias.shape == (2,)
    assert rule_of(producing_variable, layer)(layer) == (layer.kernel, -2)


def test_what_is_added_to_an_embedding_is_added_to_each_row():
    layer = built(layers.Embedding(3, 2))
    _, (table,) = narrowed(layer, mask(1), mask(1, 1), shift=np.array([10.0, 20.0]))
    np.testing.assert_allclose(table, weights_of(layer)["embeddings"] + [10.0, 20.0])
    config, (table,) = narrowed(layer, mask(1), mask(0, 1))
    assert config == {"output_dim": 1} and table.shape == (3, 1)
