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


@case(8, 4, 9, 9)
def mixers_that_share_the_mixing_of_positions():
    """One pair of layers is called on the turned stream of each block."""
    x = inputs = tokens()
    x = layers.Dense(8)(x)
    first, second = layers.Dense(4, activation="gelu"), layers.Dense(6)
    for _ in range(2):
        x = x + turned(second(first(turned(layers.BatchNormalization()(x)))))
        y = layers.Dense(9, activation="gelu")(layers.BatchNormalization()(x))
        x = x + layers.Dense(8)(y)
    return keras.Model(inputs, head(layers.BatchNormalization()(x)))


@case(8, 4)
def a_shared_layer_reads_two_streams():
    """Channels of the two go together, as those of all that one layer is called on."""
    inputs = tokens()
    streams = [layers.Dense(8, use_bias=False)(inputs) for _ in range(2)]
    first, second = layers.Dense(4, activation="gelu"), layers.Dense(6, use_bias=False)
    mixed = [turned(second(first(turned(x)))) for x in streams]
    return keras.Model(inputs, [head(x + y) for x, y in zip(streams, mixed)])


@case(4, 8)
def a_shared_layer_that_reads_tensors_of_other_axes():
    """Each call mixes positions of another number of channels; none makes positions that go."""
    inputs = tokens()
    mixing = layers.Dense(6, use_bias=False)
    x, y = (turned(mixing(turned(layers.Dense(n)(inputs)))) for n in (8, 4))
    return keras.Model(inputs, [head(x) for x in (x, y, layers.Add()([x, layers.Dense(8)(y)]))])


@case(8)
def called_on_what_it_makes():
    inputs = tokens()
    shared = layers.Dense(6, activation="tanh", name="shared")
    x = layers.Dense(8, name="first")(inputs)
    return keras.Model(inputs, head(turned(shared(shared(turned(x))))))


@case(8, 8)
def a_layer_of_sequences_and_of_rows():
    """The last axis is another one, counted from the first."""
    inputs = tokens()
    shared = layers.Dense(8, activation="relu", name="shared")
    x = layers.Dense(8, use_bias=False)(inputs)
    row = shared(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, [head(shared(x)), layers.Dense(2)(row)])


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


def gram(x, y=None):
    return ops.einsum("bnc,bnd->bcd", x, x if y is None else y)


@case(7)
def mean_of_a_gram_matrix():
    """Rows of channels that are zero add nothing; the mean is still over all of them."""
    inputs = tokens()
    x = layers.Dense(7, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(3)(ops.mean(gram(x), axis=1)))


@case(7, 6)
def sum_of_all_products():
    inputs = tokens()
    x, y = (layers.Dense(n, activation="relu")(inputs) for n in (7, 6))
    both = ops.sum(gram(x, y), axis=(1, 2), keepdims=True)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(both)))


@case(7, 6)
def largest_product_of_each_channel():
    inputs = tokens()
    x, y = (layers.Dense(n, activation="relu")(inputs) for n in (7, 6))
    both = ops.max(ops.relu(gram(x, y)), axis=-1)
    return keras.Model(inputs, layers.Dense(3)(both))


@case(7, 4)
def sum_of_squares_over_mixed_positions():
    """Positions in between may go, too; biases of positions leave no zeros to sum up."""
    inputs = tokens()
    x = layers.Dense(7, use_bias=False)(inputs)
    x = layers.Dense(4, activation="relu", use_bias=False)(turned(x))
    return keras.Model(inputs, layers.Dense(3)(ops.sum(ops.square(x), axis=1)))


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


@pytest.mark.parametrize("compactor", ["full", "diagonal"])
def test_a_compactor_of_several_ranks_mixes_or_scales_the_last_axis(compactor):
    dense = zoo.randomise(a_layer_of_sequences_and_of_rows())
    method = resrep_keras.ResRep(0.01, coupled=True, compactor=compactor)
    wrapped = resrep_keras.wrap(dense, method)
    assert helpers.difference(dense, wrapped) <= 1e-6
    helpers.check_random_removal(wrapped, ChannelState(wrapped))


def test_a_layer_of_several_ranks_is_pruned_at_once():
    dense = zoo.randomise(a_layer_of_sequences_and_of_rows())
    x = np.random.default_rng(0).normal(size=(16, 6, 5)).astype("float32")
    for method in (resrep_keras.MagnitudePruning(0.3), resrep_keras.TaylorPruning(0.3)):
        slim = method.prune(dense, data=x, repair=False)
        assert slim.certificate.max_relative <= 1e-4
        assert resrep_keras.count_macs(slim) <= 0.7 * resrep_keras.count_macs(dense)


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


def test_a_mean_over_two_axes_of_channels_takes_one():
    inputs = tokens()
    x, y = (layers.Dense(n, activation="relu")(inputs) for n in (7, 6))
    both = ops.mean(gram(x, y), axis=(1, 2), keepdims=True)
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(both))))
    assert sorted(bool(group.reason) for group in graph.groups[:2]) == [False, True]


def test_a_largest_value_of_products_of_any_sign_keeps_the_channels():
    inputs = tokens()
    x, y = (layers.Dense(n)(inputs) for n in (7, 6))
    model = keras.Model(inputs, layers.Dense(3)(ops.max(gram(x, y), axis=-1)))
    assert "which zeros change" in str(resrep_keras.trace(model).groups[1].reason)


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
    assert "no channels along this axis" in pinned_of(called_on_what_it_makes(), "shared")


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
