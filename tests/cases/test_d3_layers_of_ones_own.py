"""A layer of one's own that moves or multiplies channels is as reachable as its operations."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.pins import PinKind
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo

register = keras.saving.register_keras_serializable("test_d3_own")


@register
class PixelShuffle(layers.Layer):
    def call(self, x):
        batch, (height, width, channels) = ops.shape(x)[0], x.shape[1:]
        x = ops.reshape(x, (batch, height, width, 2, 2, channels // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, 2 * height, 2 * width, channels // 4))


@register
class ChannelShuffle(layers.Layer):
    def call(self, x):
        height, width, channels = x.shape[1:]
        x = ops.reshape(x, (-1, height, width, 2, channels // 2))
        return ops.reshape(ops.swapaxes(x, 3, 4), (-1, height, width, channels))


@register
class MaxOut(layers.Layer):
    def call(self, x):
        return ops.max(ops.reshape(x, (-1, *x.shape[1:-1], x.shape[-1] // 2, 2)), -1)


@register
class GlobalResponse(layers.Layer):
    """That of ConvNeXtV2: a mean over channels, and an offset for each of them."""

    def build(self, input_shape):
        shape = (1, 1, 1, input_shape[-1])
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, x):
        norm = ops.norm(x, axis=(1, 2), keepdims=True)
        norm = norm / (ops.mean(norm, -1, keepdims=True) + 1e-6)
        return self.gamma * (x * norm) + self.beta + x


@register
class Prototypes(layers.Layer):
    """Distances to what is learnt."""

    def build(self, input_shape):
        self.points = self.add_weight(shape=(4, input_shape[-1]), name="points")

    def call(self, x):
        return -ops.sum(ops.square(x[..., None, :] - self.points), -1)


@register
class Affine(layers.Layer):
    """A factor and a summand that all channels have in common."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift")

    def call(self, x):
        return self.scale * x + self.shift


class FeedForward(layers.Layer):
    """Two products and all that is added in one layer, whose hidden units nobody sees."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.up = self.add_weight(shape=(width, 10), name="up")
        self.up_bias = self.add_weight(shape=(10,), initializer="zeros", name="up_bias")
        self.down = self.add_weight(shape=(10, width), regularizer="l2", name="down")

    def call(self, x):
        return ops.matmul(ops.gelu(ops.matmul(x, self.up) + self.up_bias), self.down)


@register
class Dropped(FeedForward):
    """Holds another layer, so that it is open anyway."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.1)

    def call(self, x, training=None):
        hidden = ops.relu(x @ self.up + self.up_bias)
        return self.dropout(hidden, training=training) @ self.down


@register
class MixedTokens(layers.Layer):
    """The token half of an MLP-Mixer, by einsum."""

    def build(self, input_shape):
        tokens = input_shape[1]
        self.up = self.add_weight(shape=(tokens, 9), name="up")
        self.down = self.add_weight(shape=(9, tokens), name="down")

    def call(self, x):
        hidden = ops.gelu(ops.einsum("btc,th->bhc", x, self.up))
        return ops.einsum("bhc,ht->btc", hidden, self.down)


@register
class SelfAttention(layers.Layer):
    """Two heads, whose projections are weights of the layer."""

    def build(self, input_shape):
        shape = (input_shape[-1], input_shape[-1])
        self.kernels = [self.add_weight(shape=shape, name=name) for name in "qkvo"]

    def call(self, x):
        _, size, width = x.shape
        q, k, v = (
            ops.reshape(ops.matmul(x, kernel), (-1, size, 2, width // 2))
            for kernel in self.kernels[:3]
        )
        scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) * 0.5)
        x = ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, size, width))
        return ops.matmul(x, self.kernels[3])


def image(layer, filters=8):
    """The layer behind a convolution, and in front of one."""
    inputs = zoo.image(4)
    x = layer(layers.Conv2D(filters, 3, padding="same", activation="relu", name="before")(inputs))
    x = layers.Conv2D(5, 3, activation="relu", name="behind")(x)
    return keras.Model(inputs, zoo.head(x))


def padded_by_half_a_kernel(layer, kernels=(3, 1, 2)):
    """Blocks of one convolution, as they are written for kernels of any size.

    What the layer adds to zeros ends at the border of zeros, and goes into a kernel of 1 whole.
    """
    x = inputs = zoo.image(6)
    for number, kernel in enumerate(kernels):
        x = layers.ZeroPadding2D((kernel - 1) // 2)(x)
        x = layers.Conv2D(5 + number, kernel, use_bias=False, name=f"conv{number}")(x)
        x = layer()(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, zoo.head(x))


def sequence(layer, times=1):
    """The layer in a residual block behind a normalisation over all channels."""
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, name="before")(inputs)
    for _ in range(times):
        x = x + layer(layers.LayerNormalization()(x))
    x = layers.Dense(7, "relu", name="behind")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def lambdas(function):
    return lambda: image(layers.Lambda(function, name="own"))


def over_root_mean_square(x):
    return x / ops.sqrt(1e-3 + ops.mean(x * x, -1, keepdims=True))


# name: (builds the model, {layer: how many of its channels may go})
CASES = {
    "pixel shuffle": (lambda: image(PixelShuffle(name="own"), 16), {"before": 4}),
    "channel shuffle": (lambda: image(ChannelShuffle(name="own")), {"before": 4}),
    "maxout": (lambda: image(MaxOut(name="own")), {"before": 4}),
    "responses": (lambda: image(GlobalResponse(name="own")), {"before": 8}),
    "prototypes": (lambda: image(Prototypes(name="own")), {"before": 8}),
    "lambda": (lambdas(over_root_mean_square), {"before": 8}),
    "lambda of one's size": (lambdas(lambda x: ops.reshape(x, (-1, 4, 4, 8))), {"before": 8}),
    "affine": (lambda: padded_by_half_a_kernel(Affine), {"conv0": 5, "conv1": 6, "conv2": 7}),
    "feed forward": (lambda: sequence(FeedForward(name="own")), {"own_up": 10}),
    "called twice": (lambda: sequence(FeedForward(name="own"), 2), {"own_up": 10}),
    "beside a layer": (lambda: sequence(Dropped(name="own")), {"own_up": 10}),
    "tokens": (lambda: sequence(MixedTokens(name="own")), {"own_up": 9}),
    "attention": (lambda: sequence(SelfAttention(name="own")), {"own_q": 2, "own_v": 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_pruned_exactly(name):
    build, sizes = CASES[name]
    dense = zoo.randomise(build())
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True))
    assert helpers.difference(dense, wrapped) <= 1e-6
    state = ChannelState(wrapped)
    free = {
        producer.layer: len(np.unique(group.channels[~group.pinned]))
        for group in state.graph.groups
        for producer in group.producers
    }
    assert {layer: free[layer] for layer in sizes} == sizes
    helpers.check_random_removal(wrapped, state)


def test_a_summand_of_all_channels_stays_in_front_of_a_border_of_zeros():
    graph = resrep_keras.trace(padded_by_half_a_kernel(Affine, (3, 3, 1)))
    assert graph.group("conv0").reason.kind is PinKind.NO_BIAS
    assert graph.group("conv1").reason is None


def test_what_is_multiplied_is_counted_as_in_a_dense_layer():
    model = sequence(FeedForward())
    assert resrep_keras.count_macs(model) == 5 * (6 * 8 + 8 * 10 + 10 * 8 + 8 * 7) + 7 * 3


def test_penalties_stay():
    layer = FeedForward(name="own")
    wrapped = resrep_keras.wrap(sequence(layer), resrep_keras.ResRep(0.01, coupled=True))
    penalty = 0.01 * float(ops.sum(ops.square(layer.down)))
    np.testing.assert_allclose([float(loss) for loss in wrapped.losses], [penalty], rtol=1e-5)


def test_a_layer_with_frozen_weights_stays_whole():
    layer = FeedForward(name="own")
    dense = sequence(layer)
    layer.up_bias.trainable = False
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True))
    assert "own" in {each.name for each in wrapped.layers}
    assert len(wrapped.non_trainable_variables) > 0


@pytest.mark.parametrize("layer", [FeedForward, SelfAttention, MixedTokens])
def test_channels_are_removed_without_training(layer):
    slim = resrep_keras.MagnitudePruning(0.2, coupled=True).prune(sequence(layer(name="own")))
    assert slim.certificate.max_relative <= 1e-4
    assert slim.count_params() < sequence(layer()).count_params()


def test_one_opened_layer_behind_another():
    inputs = zoo.image(4)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="before")(inputs)
    x = ChannelShuffle()(GlobalResponse()(x))
    graph = resrep_keras.trace(keras.Model(inputs, zoo.head(layers.Conv2D(5, 1)(x))))
    assert len(graph.group("before").channels) == 4
    assert not graph.group("before").pinned.any()
