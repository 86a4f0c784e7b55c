"""Channels of several axes at once: layers that mix positions let channels pass, and go exactly."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo

# name: (builds the model, channels that may go in each group that has any)
CASES, case = helpers.cases()


def tokens():
    """Six positions of five numbers."""
    return keras.Input((6, 5))


def head(x):
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


def turned(x):
    return ops.transpose(x, (0, 2, 1))


def mixer(norm, width=8):
    x = inputs = tokens()
    x = layers.Dense(width)(x)
    y = layers.Dense(4, activation="gelu")(turned(norm()(x)))
    x = x + turned(layers.Dense(6)(layers.Dropout(0.1)(y)))
    y = layers.Dense(9, activation="gelu")(norm()(x))
    x = x + layers.Dense(width)(y)
    return keras.Model(inputs, head(norm()(x)))


# --- layers that mix positions -------------------------------------------------------------------


@case(8, 4, 9)
def mixer_with_batch_normalisation():
    return mixer(layers.BatchNormalization)


@case(7, 4)
def biases_of_positions():
    """What a removed channel holds differs between positions, and is one number for their mean."""
    x = inputs = tokens()
    x = layers.Dense(7, activation="relu")(x)
    y = layers.Dense(4, activation="sigmoid")(layers.Permute((2, 1))(x))
    y = layers.Permute((2, 1))(layers.Dense(6)(y))
    return keras.Model(inputs, head(layers.Add()([x, y])))


@case(7, 4, 5)
def no_biases():
    x = inputs = tokens()
    x = layers.Dense(7, activation="relu")(x)
    y = layers.Dense(4, activation="gelu", use_bias=False)(turned(x))
    x = x + turned(layers.Dense(6, use_bias=False)(y))
    return keras.Model(inputs, head(layers.Dense(5)(x)))


@case(8, 5)
def spatial_gating():
    """One half of the channels gates the other, from what other positions hold."""
    x = inputs = tokens()
    x = layers.Dense(8)(x)
    u, v = ops.split(layers.Dense(10, activation="gelu")(x), 2, -1)
    v = turned(layers.Dense(6, bias_initializer="ones")(turned(v)))
    return keras.Model(inputs, head(x + layers.Dense(8)(u * v)))


@case(8)
def einsum_over_positions():
    x = inputs = tokens()
    x = layers.Dense(8)(x)
    y = layers.EinsumDense("btc,ts->bsc", output_shape=(6, 8), bias_axes="s")(x)
    return keras.Model(inputs, head(x + y))


@case(5, 6, 6)
def height_and_width():
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(5, 1, activation="relu")(x)
    for order, back in (((0, 1, 3, 2),) * 2, ((0, 2, 3, 1), (0, 3, 1, 2))):
        y = layers.Dense(6, activation="gelu")(ops.transpose(x, order))
        x = x + ops.transpose(layers.Dense(4)(y), back)
    return keras.Model(inputs, zoo.head(x))


@case(4)
def slopes_of_positions():
    """The layer behind the new positions takes channels along one axis."""
    x = inputs = tokens()
    x = layers.Dense(7)(x)
    y = layers.PReLU(shared_axes=[1])(layers.Dense(4)(turned(x)))
    return keras.Model(inputs, head(x + turned(layers.Dense(6)(y))))


@case(7, 4)
def nested():
    inputs = keras.Input((6, 7))
    y = layers.Dense(6)(layers.Dense(4, activation="gelu")(turned(inputs)))
    inner = keras.Model(inputs, turned(y))
    x = inputs = tokens()
    x = layers.Dense(7, activation="relu")(x)
    return keras.Model(inputs, head(x + inner(x)))


# --- products with channels along both axes ------------------------------------------------------


def projections(*units):
    inputs = tokens()
    return inputs, *(layers.Dense(each)(inputs) for each in units)


@case(7, 6, 5)
def attention_without_a_softmax():
    inputs, q, k, v = projections(7, 7, 6)
    both = ops.einsum("bnc,bnd->bcd", ops.elu(k), v)
    return keras.Model(inputs, head(layers.Dense(5)(ops.einsum("bnc,bcd->bnd", q, both))))


@case(7, 6, 5)
def efficient_attention():
    """The softmax of the keys runs over positions."""
    inputs, q, k, v = projections(7, 7, 6)
    both = ops.matmul(turned(ops.softmax(k, axis=1)), v)
    return keras.Model(inputs, head(layers.Dense(5)(ops.matmul(q, both))))


@case(7, 6)
def dot_layers():
    inputs, q, k, v = projections(7, 7, 6)
    both = layers.Dot(1)([k, v])
    return keras.Model(inputs, head(layers.Dot((2, 1))([q, both])))


@case(2, 5)
def heads_without_a_softmax():
    inputs, q, k, v = projections(8, 8, 8)
    q, k, v = (layers.Reshape((6, 2, 4))(x) for x in (ops.relu(q), ops.relu(k), v))
    x = ops.einsum("bnhc,bhcd->bnhd", q, ops.einsum("bnhc,bnhd->bhcd", k, v))
    return keras.Model(inputs, head(layers.Dense(5)(layers.Reshape((6, 8))(x))))


@pytest.mark.parametrize("name", CASES)
def test_random_channels_are_removed_exactly(name):
    build, sizes = CASES[name]
    state = helpers.removed_at_random(build())
    free = [int((~group.pinned).sum()) for group in state.graph.groups]
    assert sorted(size for size in free if size) == sorted(sizes)


# --- where a mean over channels is allowed to change ----------------------------------------------


def test_a_mixer_loses_its_residual_channels_where_inexact_removal_is_allowed():
    """The streams, both hidden widths; outputs change, numbers of MACs are as planned."""
    dense = zoo.randomise(mixer(layers.LayerNormalization))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True, exact=False))
    state = ChannelState(wrapped, exact=False)
    free = [int((~group.pinned).sum()) for group in state.groups]
    assert tuple(free) == (8, 4, 9)
    kept = helpers.random_keep(state.graph, state.groups, 0, share=0.5)
    helpers.kill(wrapped, kept, state)
    slim = resrep_keras.finalize(wrapped)
    assert state.cost()(kept) == resrep_keras.count_macs(slim) < state.cost()()


# --- what stays ----------------------------------------------------------------------------------


def pinned_of(model, name):
    return str(resrep_keras.trace(model).group(name).reason)


def test_positions_stay_where_another_tensor_has_them():
    model = biases_of_positions()
    name = [layer.name for layer in model.layers if isinstance(layer, layers.Dense)][2]
    assert "has no channels along this axis" in pinned_of(model, name)


def test_one_axis_is_left_to_a_layer_that_takes_one():
    """The other axis keeps its channels, as those of an output do along both."""
    inputs = tokens()
    x = layers.Dense(8, name="first")(inputs)
    x = layers.Dense(7, name="second")(turned(x))
    flat = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    assert "takes channels along one axis" in pinned_of(flat, "first")
    assert resrep_keras.trace(flat).group("second").reason is None
    both = keras.Model(inputs, x)
    for name in ("first", "second"):
        assert "an output of the model" in pinned_of(both, name)


def test_a_layer_that_is_called_twice_reads_the_same_positions():
    inputs = tokens()
    x = layers.Dense(8, name="first")(inputs)
    shared = layers.Dense(6, activation="tanh")
    x = turned(shared(shared(turned(x))))
    assert "it works along axis 2" in pinned_of(keras.Model(inputs, head(x)), "first")


def test_products_of_a_tensor_with_itself_stay_where_both_axes_become_one():
    inputs = tokens()
    x = layers.Dense(7, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(ops.matmul(turned(x), x))))
    assert "flatten" in pinned_of(model, "first")


def test_constants_are_read_behind_a_compactor_that_mixes_positions():
    """Removed channels hold what all positions in front of the compactor make, removed ones too."""
    inputs = tokens()
    x = layers.Dense(8)(inputs)
    y = layers.Dense(4, use_bias=False)(turned(layers.BatchNormalization()(x)))
    x = x + turned(layers.Dense(6, use_bias=False)(y))
    wrapped = resrep_keras.wrap(
        zoo.randomise(keras.Model(inputs, head(x))), resrep_keras.ResRep(0.01, coupled=True)
    )
    helpers.check_random_removal(wrapped, ChannelState(wrapped))


def test_inputs_of_any_number_of_positions_pass():
    inputs = keras.Input((None, 5))
    q, k = layers.Dense(7)(inputs), layers.Dense(7)(inputs)
    both = ops.einsum("bnc,bnd->bcd", k, layers.Dense(6)(inputs))
    outputs = head(ops.einsum("bnc,bcd->bnd", q, both))
    dense = zoo.randomise(keras.Model(inputs, outputs))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True, input_shape=(6, 5)))
    state = ChannelState(wrapped, (6, 5))
    helpers.scramble(wrapped)
    kept = helpers.random_keep(state.graph, state.groups, 0, share=0.5)
    helpers.kill(wrapped, kept, state)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-4 and slim.count_params() < dense.count_params()
    x = np.random.default_rng(0).normal(size=(2, 9, 5)).astype("float32")
    np.testing.assert_allclose(slim(x), wrapped(x), rtol=1e-4, atol=1e-5)
