"""Normalisations over channels as people write them: as reachable as Keras's, with exact=False."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.remove import remove_channels
from tests import helpers, zoo


class Norm(layers.Layer):
    """A scale and an offset of its own."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=input_shape[-1:], initializer="zeros", name="beta")


class SquaresByHand(Norm):
    def call(self, x):
        mean = ops.mean(x, -1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), -1, keepdims=True)
        return (x - mean) * ops.rsqrt(variance + 1e-5) * self.gamma + self.beta


class VarianceOfKeras(Norm):
    def call(self, x):
        mean = ops.cast(ops.mean(x, -1, keepdims=True), self.compute_dtype)
        deviation = ops.sqrt(ops.var(x, -1, keepdims=True) + 1e-5)
        return (x - mean) / deviation * self.gamma + self.beta


class Moments(Norm):
    def call(self, x):
        mean, variance = ops.moments(x, [-1], keepdims=True)
        return self.gamma * ((x - mean) / ops.sqrt(variance + 1e-5)) + self.beta


def transformer(norm):
    inputs = keras.Input((6, 5))
    x = layers.Dense(7)(inputs)
    x = x + layers.Dense(7)(layers.Dense(9, activation="relu")(norm()(x)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(norm()(x))))


def free_of(model, exact):
    graph = resrep_keras.trace(model, exact=exact)
    return [int((~group.pinned).sum()) for group in graph.groups][:2]


@pytest.mark.parametrize("norm", [SquaresByHand, VarianceOfKeras, Moments])
def test_streams_go_where_inexact_removal_is_allowed(norm):
    dense = zoo.randomise(transformer(norm))
    assert free_of(dense, exact=True) == [0, 9]
    assert free_of(dense, exact=False) == [7, 9]
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True, exact=False))
    state = ChannelState(wrapped, exact=False)
    kept = helpers.random_keep(state.graph, state.groups, 0, share=0.5)
    helpers.kill(wrapped, kept, state)
    slim = resrep_keras.finalize(wrapped)
    assert state.cost()(kept) == resrep_keras.count_macs(slim) < state.cost()()
    assert any("over channels" in str(pin) for pin in slim.certificate.inexact)


def centred(inputs, x):
    return keras.Model(inputs, layers.Dense(3)(x - ops.mean(x, -1, keepdims=True)))


def test_the_mean_stays_that_of_all_channels():
    inputs = keras.Input((5,))
    model = zoo.randomise(centred(inputs, layers.Dense(4, name="first")(inputs)))
    kernel, bias, read, offset = model.get_weights()
    keep = np.array([1, 0, 1, 1], bool)
    slim = remove_channels(model, {"first": keep}, exact=False)
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    left = (x @ kernel + bias)[:, keep]
    expected = (left - left.sum(-1, keepdims=True) / 4) @ read[keep] + offset
    np.testing.assert_allclose(slim(x), expected, rtol=1e-4, atol=1e-5)


def test_what_is_no_mean_of_the_same_channels_is_a_constant_for_none():
    """The mean of another tensor has nothing to do with these channels, which stay."""
    inputs = keras.Input((5,))
    x, y = layers.Dense(4, name="first")(inputs), layers.Dense(6)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(x - ops.mean(y, -1, keepdims=True)))
    graph = resrep_keras.trace(model, exact=False)
    assert "no bias can hold" in str(graph.group("first").reason)


def test_statistics_over_positions_let_channels_pass():
    x = inputs = keras.Input((6, 5))
    x = layers.Dense(7)(x)
    mean, variance = ops.moments(x, [1], keepdims=True)
    x = layers.Dense(4)((x - mean) * ops.rsqrt(variance + 1e-3))
    dense = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    wrapped = resrep_keras.wrap(zoo.randomise(dense), resrep_keras.ResRep(0.01, coupled=True))
    state = ChannelState(wrapped)
    assert int((~state.graph.groups[0].pinned).sum()) == 7
    helpers.check_random_removal(wrapped, state)
