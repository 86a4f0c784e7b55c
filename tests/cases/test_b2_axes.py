"""Weights along another axis than the channels: what mixes positions, as in mixers and ECA."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.params import ParamCost
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.remove import remove
from tests import helpers

MODELS = {}


def model(build):
    MODELS[build.__name__] = build
    return build


def pooled(x):
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


@model
def positions():
    x = inputs = keras.Input((16, 6))
    x = layers.Dense(8)(x)
    y = layers.Permute((2, 1))(x)
    y = layers.Dense(12, activation="relu")(y)
    y = layers.Permute((2, 1))(layers.Dense(16)(y))
    return keras.Model(inputs, pooled(layers.Add()([x, y])))


@model
def mixer():
    x = inputs = keras.Input((16, 6))
    x = layers.Dense(8)(x)
    for _ in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(16)(layers.Dense(12, activation="gelu")(y))
        x = layers.Add()([x, layers.Permute((2, 1))(y)])
        y = layers.Dense(14, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(8)(y)])
    return keras.Model(inputs, pooled(x))


@model
def mixer_of_operations():
    x = inputs = keras.Input((16, 6))
    x = layers.Dense(8)(x)
    y = layers.Dense(12, activation="sigmoid")(ops.swapaxes(x, 1, 2))
    y = ops.transpose(layers.Dense(16)(y), (0, 2, 1))
    x = layers.Dense(10, activation="relu")(x + y)
    return keras.Model(inputs, pooled(x))


@model
def efficient_channel_attention():
    """A convolution slides over channels."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu")(x)
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    gate = layers.Reshape((8, 1))(layers.GlobalAveragePooling2D()(y))
    gate = layers.Conv1D(1, 3, padding="same", use_bias=False, activation="sigmoid")(gate)
    y = layers.Multiply()([y, layers.Reshape((1, 1, 8))(gate)])
    y = layers.Conv2D(5, 1, activation="relu")(y)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(y)))


@model
def gate_that_scales_positions():
    """One channel, made for each position, that lies where the other tensor has its channels."""
    x = inputs = keras.Input((8, 3))
    x = layers.Conv1D(8, 3, padding="same", activation="relu")(x)
    gate = layers.Dense(1, activation="sigmoid")(layers.Dense(6, activation="relu")(inputs))
    y = layers.Multiply()([x, layers.Reshape((1, 8))(gate)])
    return keras.Model(inputs, pooled(layers.Dense(5, activation="relu")(y)))


@model
def channels_first_in_between():
    """Layers of the other data format read the positions as channels."""
    x = inputs = keras.Input((6, 5))
    x = layers.Dense(7, activation="relu")(x)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Dense(6, activation="relu")(x)
    x = layers.GlobalAveragePooling1D(data_format="channels_first")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(9, activation="relu")(x)))


@model
def slopes_and_products_across():
    x = inputs = keras.Input((6, 5))
    x = layers.Dense(7)(x)
    x = layers.Permute((2, 1))(x)
    x = layers.PReLU(shared_axes=[1])(x)
    y = layers.Dense(4, activation="relu")(x)
    y = ops.matmul(layers.Permute((2, 1))(y), x)  # sums over the channels of the first layer
    return keras.Model(inputs, pooled(layers.Dense(9, activation="relu")(y)))


@model
def embedding_over_positions():
    """Entry by entry along a time axis, and then along the features of each step."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8)(inputs)
    y = layers.Permute((2, 1))(x)
    y = layers.EinsumDense("abc,cd->abd", (8, 5), activation="relu")(y)
    y = layers.Permute((2, 1))(layers.Dense(6)(y))
    return keras.Model(inputs, pooled(layers.Dense(9, activation="relu")(y)))


def each_model(test):
    return pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)(test)


def random_keep(build, seed=0):
    dense = build()
    graph = resrep_keras.trace(dense)
    groups = [group for group in graph.groups if group.prunable]
    assert groups
    return dense, graph, helpers.random_keep(graph, groups, seed, share=0.5)


def test_macs_as_arithmetic():
    rows = 16 * 6 * 8 + 8 * 16 * 12 + 8 * 12 * 16 + 8 * 3
    assert resrep_keras.count_macs(positions()) == rows == 3_864
    block = 16 * 8 * 12 * 2 + 16 * 8 * 14 * 2
    assert resrep_keras.count_macs(mixer()) == 16 * 6 * 8 + 2 * block + 8 * 3
    convolutions = 36 * 9 * 3 * 6 + 36 * 9 * 6 * 8 + 36 * 8 * 5
    eca = convolutions + 8 * 3 + 36 * 5 * 3  # three taps at each of eight channels
    assert resrep_keras.count_macs(efficient_channel_attention()) == eca


def test_channels_pass_what_mixes_positions_and_its_own_may_go():
    graph = resrep_keras.trace(positions())
    mixing, stream = graph.calls[2].name, graph.calls[0].name
    assert [group.name for group in graph.groups if group.prunable] == [stream, mixing]


@each_model
def test_predicted_costs_are_the_counted_ones(build):
    _, graph, kept = random_keep(build)
    slim = remove(graph, kept)
    assert MacCost(graph)(kept) == resrep_keras.count_macs(slim) < MacCost(graph)()
    assert ParamCost(graph)(kept) >= resrep_keras.count_params(slim)
    assert ParamCost(graph)() == resrep_keras.count_params(build())


@each_model
def test_slim_equals_masked(build):
    wrapped = resrep_keras.wrap(build(), resrep_keras.ResRep(0.01, coupled=True))
    assert helpers.difference(build_like(wrapped, build), wrapped) <= 1e-6
    helpers.scramble(wrapped)
    channel_state = ChannelState(wrapped)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, 0, share=0.5)
    assert not kept.all()
    helpers.kill(wrapped, kept, channel_state)
    wrapped.method = None  # any masks, whatever the target
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert helpers.difference(wrapped, slim) <= 1e-4
    assert channel_state.cost()(kept) == resrep_keras.count_macs(slim)


def build_like(wrapped, build):
    """The dense model with the weights of a wrapped one."""
    dense = build()
    there = {w.path: w for w in wrapped.weights}
    rest = [w for w in wrapped.weights if "compactor" not in w.path]
    assert len(rest) == len(dense.weights) and there
    dense.set_weights([w.numpy() for w in rest])
    return dense


@each_model
def test_prune_and_training_end_in_a_smaller_model(build):
    dense = build()
    slim = resrep_keras.MagnitudePruning(0.1).prune(dense)
    assert resrep_keras.count_macs(slim) <= 0.9 * resrep_keras.count_macs(dense)
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
    wrapped.compile("sgd", "mse")
    x = helpers.example_inputs(dense, 8)
    wrapped.fit(x, np.zeros((8, 3)), epochs=12, batch_size=4, verbose=0)
    done = resrep_keras.finalize(wrapped, strict=True)
    assert resrep_keras.count_macs(done) <= 0.9 * resrep_keras.count_macs(dense)


@each_model
def test_every_score_and_cost_takes_them(build):
    graph = resrep_keras.trace(build())
    explanation = resrep_keras.explain(build())
    assert explanation.totals.macs == MacCost(graph)()
    for method in (resrep_keras.FPGM(0.1), resrep_keras.MagnitudePruning(0.1)):
        assert resrep_keras.wrap(build(), method).count_params() > 0
