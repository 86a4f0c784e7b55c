"""The selection: by hand, against brute force, and where it cannot be done."""

import pickle
import time

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.costs.budget import Limit, UnreachableTarget, choose_keep
from resrep_keras.costs.macs import MacCost
from tests import zoo


def two_layers():
    """Dense 2 -> 3 -> 4 -> 1: MACs 2 a + a b + b."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(4), layers.Dense(1)])
    graph = resrep_keras.trace(model)
    return graph, MacCost(graph)


def limits(cost, at_most):
    return [Limit("macs", cost, at_most, cost())]


def test_by_hand():
    graph, cost = two_layers()
    assert cost() == 2 * 3 + 3 * 4 + 4
    # Ascending: b1 (0.1), a2 (0.2), a0 (0.3), b0 (0.4), ...
    scores = np.array([0.3, 0.9, 0.2, 0.4, 0.1, 0.8, 0.7, 0.0])
    # After b1: 6 + 9 + 3 = 18; after a2: 4 + 6 + 3 = 13; after a0: 2 + 3 + 3 = 8.
    for target, removed in ((22, []), (18, [4]), (17, [4, 2]), (13, [4, 2]), (12, [4, 2, 0])):
        kept = choose_keep(graph, scores, limits(cost, target))
        assert np.flatnonzero(~kept).tolist() == sorted(removed)


def test_ties_go_by_group_then_channel():
    graph, cost = two_layers()
    kept = choose_keep(graph, np.zeros(8), limits(cost, 13))
    assert np.flatnonzero(~kept).tolist() == [0, 1]  # 2 + 4 + 4 = 10 after two, 4 + 8 + 4 after one


def test_allowance_limits_the_number():
    graph, cost = two_layers()
    kept = choose_keep(graph, np.arange(8.0), limits(cost, 5), allowance=1)
    assert np.flatnonzero(~kept).tolist() == [0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["residual", "concatenate", "squeeze_excite", "shared_layer"])
def test_equals_checking_after_every_single_channel(name, seed):
    graph = resrep_keras.trace(zoo.build(name))
    cost = MacCost(graph)
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, graph.num_channels).astype(float)
    target = generator.uniform(0.6, 1.0) * cost()
    kept = np.ones(graph.num_channels, bool)
    left = {p.name: len(p.channels) for g in graph.groups for p in g.producers}
    candidates = sorted(
        (scores[c], position, c)
        for position, group in enumerate(graph.groups)
        for c in group.channels[~group.pinned]
        if group.prunable
    )
    for _, position, channel in candidates:
        if cost(kept) <= target:
            break
        owners = [p.name for p in graph.groups[position].producers if channel in p.channels]
        if all(left[owner] > 1 for owner in owners):
            kept[channel] = False
            for owner in owners:
                left[owner] -= 1
    np.testing.assert_array_equal(choose_keep(graph, scores, limits(cost, target)), kept)


@pytest.mark.parametrize(("min_channels", "min_share"), [(3, 0.0), (1, 0.7)])
def test_each_layer_keeps_its_minimum(min_channels, min_share):
    graph = resrep_keras.trace(zoo.build("vgg"))
    cost = MacCost(graph)
    minimum = {
        producer.name: max(min_channels, int(np.ceil(min_share * len(producer.channels))))
        for group in graph.groups
        for producer in group.producers
    }
    kept = choose_keep(
        graph, np.zeros(graph.num_channels), limits(cost, 0.75 * cost()), minimum=minimum
    )
    for group in graph.groups:
        if group.prunable:
            share = int(np.ceil(min_share * group.size))
            assert kept[group.channels].sum() >= max(min_channels, share)
    assert not kept.all()


def test_unreachable_target_names_the_floor():
    graph, cost = two_layers()
    # One channel each: 2 + 1 + 1 = 4 of 22 left, 0.8181 removed.
    with pytest.raises(
        UnreachableTarget, match=r"4 MACs are left.*largest target_reduction is 0\.8181"
    ) as raised:
        choose_keep(graph, np.zeros(8), limits(cost, 3))
    error = raised.value
    assert (error.quantity, error.floor, error.largest_reduction) == ("macs", 4, 0.8181)
    again = pickle.loads(pickle.dumps(error))  # as between the processes of a search
    assert isinstance(error, ValueError) and str(again) == str(error)


def test_nan_scores_name_the_layer():
    graph, cost = two_layers()
    with pytest.raises(ValueError, match=r"scores of layer 'dense.*' hold NaN.*learning rate"):
        choose_keep(graph, np.full(8, np.nan), limits(cost, 10))


def test_thirty_thousand_channels_are_selected_quickly():
    """The benchmark asks for 0.2 s on one core; here a loose bound guards against a loop."""
    x = inputs = keras.Input((8, 8, 3))
    for _ in range(60):
        x = layers.Conv2D(512, 1)(x)
    graph = resrep_keras.trace(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    cost = MacCost(graph)
    scores = np.random.default_rng(0).uniform(size=graph.num_channels)
    begin = time.perf_counter()
    kept = choose_keep(graph, scores, limits(cost, 0.5 * cost()))
    assert time.perf_counter() - begin < 2
    assert graph.num_channels > 30_000
    assert cost(kept) <= 0.5 * cost()


@pytest.mark.parametrize(
    ("minimum", "widths", "left"), [(1, None, 1), (4, None, 1), (5, None, 2), (1, 4, 1), (9, 2, 3)]
)
def test_several_units_are_one_channel(minimum, widths, left):
    """Twelve units are four each of three channels."""
    x = inputs = keras.Input((2,))
    x = layers.Conv1D(2, 1)(layers.Reshape((4, 3))(layers.Dense(12, name="made")(x)))
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x))))
    group = graph.group("made")
    cost = MacCost(graph)
    kept = np.ones(graph.num_channels, bool)
    kept[group.channels[left:]] = False
    found = choose_keep(
        graph,
        np.arange(graph.num_channels, 0, -1.0),
        limits(cost, cost(kept)) if left < 3 else [],
        groups=[group],
        minimum={"made": minimum},
        widths=None if widths is None else {"made": range(widths, 13, widths)},
    )
    assert found[group.channels].sum() == left
    if left < 3:
        with pytest.raises(UnreachableTarget):
            choose_keep(
                graph,
                np.zeros(graph.num_channels),
                limits(cost, 0),
                groups=[group],
                minimum={"made": minimum},
            )
