"""Masks and columns of a wrapped model as one array, by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState, PrunableChannels
from tests import helpers, zoo


@pytest.fixture
def state():
    x = inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 1, activation="relu", name="first")(x)
    x = layers.Conv2D(2, 1, activation="relu", name="second")(x)
    dense = keras.Model(inputs, layers.Conv2D(1, 1, name="top")(x))
    return ChannelState(resrep_keras.wrap(dense, resrep_keras.ResRep(0.1)))


def channels(state, name):
    return state.graph.group(name).channels


def scale(state, position, factors):
    layer, _ = state.compactors[position]
    layer.kernel.assign(layer.kernel * np.array(factors))


def test_a_compactor_for_each_layer_but_the_output(state):
    assert [ids.tolist() for _, ids in state.compactors] == [
        channels(state, "first").tolist(),
        channels(state, "second").tolist(),
    ]
    assert [group.name for group in state.groups] == ["first", "second"]


def test_compactors_behind_producers_are_known():
    x = inputs = keras.Input((4, 4, 2))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(3, 1, name="first")(x))
    x = layers.DepthwiseConv2D(1, name="depthwise")(x)
    x = layers.BatchNormalization(name="later")(x)
    dense = keras.Model(inputs, layers.Conv2D(1, 3, padding="same", name="top")(x))
    state = ChannelState(resrep_keras.wrap(dense, resrep_keras.ResRep(0.1)))
    names = [layer.name for layer, _ in state.compactors]
    assert names == ["norm_compactor", "later_compactor"]
    assert [layer.name for layer, _ in state.behind_producers] == ["norm_compactor"]


def test_norms_are_those_of_the_columns(state):
    scale(state, 0, [1.0, 3.0, 0.0])
    norms = state.norms()
    assert norms[channels(state, "first")].tolist() == [1.0, 3.0, 0.0]
    assert np.isinf(norms[channels(state, "top")]).all()


def test_masks_are_written_and_read(state):
    kept = np.ones(state.graph.num_channels, bool)
    kept[channels(state, "first")[1]] = False
    state.set_masks(kept)
    np.testing.assert_array_equal(state.kept(), kept)
    layer, _ = state.compactors[0]
    assert np.asarray(layer.keep_mask).tolist() == [True, False, True]
    assert layer.column_norms().tolist() == [1, 1, 1]  # the columns are left as they are
    state.switch_off(kept)
    assert layer.column_norms().tolist() == [1, 0, 1]


def test_a_channel_is_dead_at_zero_or_masked_and_below_the_threshold(state):
    scale(state, 0, [0.0, 1e-6, 1e-6])
    kept = np.ones(state.graph.num_channels, bool)
    kept[channels(state, "first")[1]] = False
    state.set_masks(kept)
    assert state.dead(1e-5)[channels(state, "first")].tolist() == [True, True, False]
    assert state.dead(1e-7)[channels(state, "first")].tolist() == [True, False, False]


def test_a_layer_keeps_one_channel_be_it_zero(state):
    scale(state, 0, [0.0, 0.0, 0.0])
    assert state.dead(1e-5)[channels(state, "first")].tolist() == [False, True, True]


def test_a_coupled_channel_is_dead_where_all_its_columns_are():
    state = ChannelState(
        resrep_keras.wrap(zoo.build("residual"), resrep_keras.ResRep(0.1, coupled=True))
    )
    group = next(group for group in state.groups if group.coupled)
    members = [
        (layer, ids) for layer, ids in state.compactors if np.isin(group.channels[0], ids).all()
    ]
    assert len(members) == 3
    for number, (layer, ids) in enumerate(members, start=1):
        layer.kernel.assign(layer.kernel * (ids != group.channels[0]))
        assert state.dead(1e-5)[group.channels[0]] == (number == len(members))


def test_costs_are_those_of_the_slim_model(state):
    kept = np.ones(state.graph.num_channels, bool)
    kept[channels(state, "first")[0]] = False
    dense, slim = 16 * (2 * 3 + 3 * 2 + 2 * 1), 16 * (2 * 2 + 2 * 2 + 2 * 1)
    for cost in (state.cost(), state.predicted("macs")):
        assert (cost(), cost(kept)) == (dense, slim)
    assert state.predicted("macs") is state.predicted("macs")


def test_nothing_is_removed_at_first(state):
    assert state.removed == 0
    producer = state.graph.group("first").producers[0]
    assert state.dense_width(producer) == 3


def test_keep_arrays_go_over_to_the_sizes_of_the_model():
    x = inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(3, 1, name="first")(x)
    model = keras.Model(inputs, layers.Conv2D(1, 1, name="top")(x))
    graph = resrep_keras.trace(model, input_shape=(4, 4, 2))
    prunable = PrunableChannels(model, graph, graph.groups, input_shape=(4, 4, 2))
    assert prunable.own is not graph
    kept = graph.keep_array({"first": np.array([True, False, True])})
    own = prunable.own_keep(kept)
    assert prunable.own.keep_by_producer(own)["first"].tolist() == [True, False, True]
    same = PrunableChannels(model, graph, graph.groups)
    assert same.own is graph and same.own_keep(kept) is kept


def test_a_model_without_compactors_is_refused():
    model = zoo.build("chain")
    with pytest.raises(ValueError, match=rf"'{model.name}' has no compactors.*wrap\(model\)"):
        ChannelState(model)


def test_random_masks_come_back():
    state = ChannelState(resrep_keras.wrap(zoo.build("squeeze_excite")))
    kept = helpers.random_keep(state.graph, state.groups, seed=0)
    state.set_masks(kept)
    np.testing.assert_array_equal(state.kept(), kept)
