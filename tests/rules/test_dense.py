"""Dense, EinsumDense and Embedding by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.graph.flow import rule_of
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.rules.dense import EinsumAxes
from resrep_keras.surgery.channel_weights import producing_variable
from resrep_keras.surgery.narrow import narrow, weights_of
from resrep_keras.surgery.outputs import Mixed
from tests import helpers
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
    """An ellipsis does not say where they lie, nor does a bias which of them it is for."""
    layer = layers.EinsumDense("...c,cde->...de", (2, 2))
    assert not EinsumAxes(layer).simple
    assert Answer(layer, SEQUENCE).pins("along several axes")
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 2), bias_axes="e")
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


# --- channels along several axes -----------------------------------------------------------------


def test_axes_of_heads():
    layer = built(layers.EinsumDense("bqm,muh->bquh", (None, 4, 2), bias_axes="uh"), 5, 3)
    axes = EinsumAxes(layer).several
    assert axes.known and not axes.one and axes.letter == "u"
    assert (axes.reads, axes.output, axes.kernel_out) == ({-1: -3}, -2, -2)
    layer = built(layers.EinsumDense("bquh,uhm->bqm", (None, 6), bias_axes="m"), 5, 4, 2)
    axes = EinsumAxes(layer).several
    assert axes.known and axes.one and axes.reads == {-2: -3, -1: -2}


def test_a_bias_that_heads_share_would_stay_where_a_head_goes():
    layer = built(layers.EinsumDense("bqm,muh->bquh", (None, 4, 2), bias_axes="h"), 5, 3)
    assert not EinsumAxes(layer).several.known


def attention_of_heads(activation=None):
    inputs = keras.Input((5, 3))
    query, key, value = (
        layers.EinsumDense("bqm,muh->bquh", (None, 4, 2), bias_axes="uh", name=name)(inputs)
        for name in "qkv"
    )
    scores = keras.ops.softmax(keras.ops.einsum("bqnd,bknd->bnqk", query, key))
    x = keras.ops.einsum("bnqk,bknd->bqnd", scores, value)
    x = layers.EinsumDense("bquh,uhm->bqm", (None, 6), bias_axes="m", activation=activation)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


@pytest.mark.parametrize("activation", [None, "relu"])
def test_whole_heads_are_removed_exactly(activation):
    keras.utils.set_random_seed(0)
    method = resrep_keras.ResRep(1e-6, coupled=True)
    wrapped = resrep_keras.wrap(attention_of_heads(activation), method)
    state = ChannelState(wrapped)
    assert sorted(len(group.channels) for group in state.groups) == [4, 6]
    helpers.scramble(wrapped)
    kept = helpers.random_keep(state.graph, state.groups, 1)
    helpers.kill(wrapped, kept, state)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-4
    heads = slim.get_layer("q").kernel.shape[1]
    assert 1 <= heads < 4 and slim.get_layer("v").bias.shape == (heads, 2)
    # Projections of 5 rows, both products of 5 x 5 pairs, what joins the heads, and the head.
    width = slim.layers[-1].kernel.shape[0]
    expected = 5 * (3 * 3 * heads * 2 + heads * 2 * width + width * 2) + 2 * 25 * heads * 2
    assert resrep_keras.count_macs(slim) == state.cost()(kept) == expected
