"""Channels on the move are removed exactly: over space and back, into heads, through constants."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo

# name: (builds the model, channels that may go in each group that has any)
CASES = {}


def case(*sizes):
    def decorate(build):
        CASES[build.__name__] = build, sizes
        return build

    return decorate


def head(x):
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Dense(7, "relu")(x)))


def image_head(x):
    return zoo.head(layers.Conv2D(5, 3, padding="same", activation="relu")(x))


def conv(x, filters, **kwargs):
    return layers.Conv2D(filters, 3, padding="same", activation="relu", **kwargs)(x)


# --- over space and back --------------------------------------------------------------------------


@case(6, 4)
def generator():
    """49 units, here 16, are one later channel."""
    inputs = keras.Input((5,))
    x = layers.BatchNormalization()(layers.Dense(4 * 4 * 6, use_bias=False)(inputs))
    x = layers.Reshape((4, 4, 6))(layers.LeakyReLU()(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    outputs = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="tanh")(x)
    return keras.Model(inputs, outputs)


@case(3, 5)
def wide_generator():
    """Positions are more than channels."""
    inputs = keras.Input((5,))
    x = layers.Reshape((8, 8, 3))(layers.Dense(8 * 8 * 3, activation="relu")(inputs))
    return keras.Model(inputs, zoo.head(conv(x, 5)))


@case(3, 5)
def generator_of_channels_first():
    inputs = keras.Input((5,))
    x = layers.Reshape((3, 16))(layers.Dense(3 * 16, activation="relu")(inputs))
    x = layers.Conv1D(5, 1, activation="relu")(layers.Permute((2, 1))(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@case(6, 4)
def pixel_shuffle():
    inputs = zoo.image(4)
    x = layers.Conv2D(16, 3, padding="same")(conv(inputs, 6))
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((4, 4, 2, 2, 4))(x))
    x = layers.ReLU()(layers.Reshape((8, 8, 4))(x))
    return keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(x))


@case(6, 5)
def space_to_depth():
    inputs = zoo.image(4)
    x = ops.reshape(conv(inputs, 6), (-1, 2, 2, 2, 2, 6))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 2, 2, 24))
    return keras.Model(inputs, image_head(x))


@case(4, 4, 5)
def channel_shuffle():
    """The same of each group goes, so that the groups stay equally wide."""
    inputs = zoo.image(4)
    x = layers.BatchNormalization()(layers.Conv2D(12, 1, groups=3)(conv(inputs, 12)))
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 3, 4))(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(layers.Reshape((4, 4, 12))(x))
    return keras.Model(inputs, image_head(layers.BatchNormalization()(x)))


@case(4, 5)
def channel_shuffle_of_operations():
    inputs = zoo.image(4)
    x = ops.reshape(conv(inputs, 12), (-1, 4, 4, 3, 4))
    x = ops.reshape(ops.swapaxes(x, 3, 4), (-1, 4, 4, 12))
    return keras.Model(inputs, image_head(x))


# --- heads ----------------------------------------------------------------------------------------


@case(3, 7)
def heads_by_hand():
    inputs = keras.Input((5, 6))
    q, k, v = (ops.reshape(layers.Dense(12)(inputs), (-1, 5, 3, 4)) for _ in range(3))
    q, k, v = (ops.transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 0.5)
    x = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
    return keras.Model(inputs, head(ops.reshape(x, (-1, 5, 12))))


@case(3, 7)
def heads_by_einsum():
    inputs = keras.Input((5, 6))
    q, k, v = (layers.Reshape((5, 3, 4))(layers.Dense(12)(inputs)) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) * 0.5)
    x = ops.einsum("bhqk,bkhd->bqhd", scores, v)
    return keras.Model(inputs, head(layers.Reshape((5, 12))(x)))


# --- positions ------------------------------------------------------------------------------------


@case(8, 7)
def positions_of_two_tensors():
    """A class token in front of the others: channels are equal, and none goes alone."""
    inputs = keras.Input((5, 6))
    token = layers.Reshape((1, 8))(layers.Dense(8)(layers.GlobalAveragePooling1D()(inputs)))
    return keras.Model(inputs, head(layers.Concatenate(axis=1)([token, layers.Dense(8)(inputs)])))


# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_random_channels_are_removed_exactly(name):
    build, sizes = CASES[name]
    wrapped = resrep_keras.wrap(zoo.randomise(build()), resrep_keras.ResRep(0.01, coupled=True))
    state = ChannelState(wrapped)
    free = [int((~group.pinned).sum()) for group in state.graph.groups]
    assert tuple(size for size in free if size) == sizes
    helpers.scramble(wrapped)
    kept = helpers.random_keep(state.graph, state.groups, 0, share=0.5)
    helpers.kill(wrapped, kept, state)
    wrapped.method = None  # any masks, whatever the target
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-4
    assert helpers.difference(wrapped, slim) <= 1e-4
    assert state.cost()(kept) == resrep_keras.count_macs(slim) < state.cost()()
    again = keras.Model.from_config(slim.get_config())  # of Keras's own classes
    again.set_weights(slim.get_weights())
    assert helpers.difference(slim, again) == 0


def test_units_of_one_later_channel_go_together():
    graph = resrep_keras.trace(generator())
    units = graph.groups[0].producers[0].channels.reshape(4, 4, 6)
    np.testing.assert_array_equal(units, np.broadcast_to(units[:1, :1], units.shape))
