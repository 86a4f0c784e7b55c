"""Importance scores by hand."""

import types

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.graph.channels import ChannelGroup, Producer
from resrep_keras.methods.channels.scores import (
    by_layer_mean,
    guarded,
    joint_norm,
    kernel_distance,
    kernel_norm,
    mean_over,
    per_cost,
    relative_to_layer,
    savings,
    score_weights,
    sum_over,
)

INF = np.inf


def ids(*numbers):
    return np.array(numbers)


def group(*channels):
    channels = np.array(channels)
    maker = Producer("layer", channels)
    return ChannelGroup("layer", channels, (maker,), (), np.zeros(len(channels), bool))


def test_norms_of_coupled_columns_are_joined():
    columns = [(ids(0, 1), np.array([3.0, 1.0])), (ids(0, -1), np.array([4.0, 9.0]))]
    # sqrt((3^2 + 4^2) / 2); channel 2 has no column.
    assert joint_norm(columns, 3).tolist() == [np.sqrt(12.5), 1.0, INF]


def test_effects_of_coupled_channels_add_up():
    parts = [(ids(0, 1), np.array([3.0, 1.0])), (ids(0, -1), np.array([4.0, 9.0]))]
    assert sum_over(parts, 3).tolist() == [3.0 + 4.0, 1.0, INF]


def test_relative_to_the_mean_of_what_a_layer_keeps():
    scores = np.array([1.0, 3.0, 5.0, 20.0, 40.0])
    kept = np.array([True, True, False, True, True])
    relative = relative_to_layer(scores, [group(0, 1, 2), group(3, 4)], kept)
    np.testing.assert_allclose(relative, [1 / 2, 3 / 2, 5 / 2, 20 / 30, 40 / 30])
    assert scores[0] == 1.0  # a copy


def test_all_channels_of_a_layer_are_in_its_mean():
    scores = np.array([1.0, 3.0, 5.0, 20.0, INF])
    found = by_layer_mean(scores, [group(0, 1, 2), group(3, 4)])
    np.testing.assert_allclose(found, [1 / 3, 1, 5 / 3, 1, INF])


def test_layers_without_a_mean_keep_their_scores():
    scores = np.array([2.0, INF, 0.0])
    assert relative_to_layer(scores, [group(0, 1)], np.ones(3, bool)).tolist()[:2] == [1.0, INF]
    gone = relative_to_layer(scores, [group(0), group(2)], np.zeros(3, bool))
    assert gone.tolist() == [2.0, INF, 0.0]


def test_scores_per_cost_have_the_mean_saving_as_unit():
    # Of 12 units, a channel of the first layer saves 4, one of the second 1.
    def cost(kept=None):
        kept = np.ones(6, bool) if kept is None else kept
        return 4 * kept[:2].sum() + kept[2:].sum()

    limit = types.SimpleNamespace(cost=cost)
    scores = np.full(6, 1.0)
    mean = (2 * 4 + 4 * 1) / 6 / 12
    saved = savings(6, [group(0, 1), group(2, 3, 4, 5)], [limit])
    np.testing.assert_allclose(saved, [4 / 12] * 2 + [1 / 12] * 4)
    found = per_cost(scores, saved)
    np.testing.assert_allclose(found, [mean * 3] * 2 + [mean * 12] * 4)
    # Where nothing is saved, a channel is kept to the last.
    nothing = savings(1, [group(0)], [types.SimpleNamespace(cost=lambda k=None: 5)])
    assert per_cost(scores[:1], nothing)[0] == INF


def test_scores_rise_as_their_layer_empties():
    # Of 1 + 2 + 5, there is left 8, 7 and 5 when the turn of each channel comes.
    scores = np.array([5.0, 1.0, 2.0, 0.5, INF])
    for strength in (1.0, 2.0):
        rise = np.array([8 / 5, 8 / 8, 8 / 7]) ** strength
        found = guarded(scores, [group(0, 1, 2), group(3, 4)], strength)
        np.testing.assert_allclose(found, [*(scores[:3] * rise), 0.5, INF])
    assert guarded(scores, [group(0, 1, 2)], 0.0).tolist() == scores.tolist()
    assert scores[0] == 5.0  # a copy


def test_the_last_channel_costs_as_much_as_its_layer():
    found = guarded(np.full(100, 0.01), [group(*range(100))])
    np.testing.assert_allclose([found.min(), found.max()], [0.01, 1.0])


def test_channels_that_are_worth_nothing_stay_so():
    found = guarded(np.array([0.0, 0.0, 3.0, 0.0]), [group(0, 1, 2), group(3)])
    assert found.tolist() == [0.0, 0.0, 3.0, 0.0]


KERNEL = np.array([[[[1.0, -3.0, 0.0], [-2.0, 4.0, 0.0]]]])  # (1, 1, 2 inputs, 3 channels)


def test_kernel_norms_are_divided_by_the_layers_mean():
    np.testing.assert_allclose(kernel_norm(KERNEL, 1), np.array([3, 7, 0]) / (10 / 3))
    two = np.array([np.sqrt(5), 5.0, 0.0])
    np.testing.assert_allclose(kernel_norm(KERNEL, 2), two / two.mean())
    assert kernel_norm(np.zeros((2, 3)), 1).tolist() == [0, 0, 0]


def test_distances_are_those_to_all_other_channels():
    """Three points on a line: 0, 1 and 4; the middle one is nearest to the others."""
    points = np.array([[0.0, 1.0, 4.0]])
    total = np.array([1 + 4, 1 + 3, 4 + 3])
    np.testing.assert_allclose(kernel_distance(points), total / total.mean())


def test_the_mean_is_over_the_layers_that_give_a_score():
    parts = [(ids(0, 1), np.array([1.0, 2.0])), (ids(1, -1), np.array([4.0, 9.0]))]
    assert mean_over(parts, 3).tolist() == [1.0, 3.0, INF]


@pytest.fixture
def model():
    inputs = keras.Input((4, 4, 2))
    first = layers.Conv2D(3, 1, name="first")
    second = layers.Conv2D(3, 1, name="second")
    x = layers.Add()([first(inputs), second(inputs)])
    model = keras.Model(inputs, layers.Conv2D(1, 1, name="top")(x))
    first.kernel.assign(KERNEL)
    second.kernel.assign(2 * KERNEL)
    return model


def test_coupled_layers_are_scored_by_the_mean_of_their_weights(model):
    def total(weights):
        return np.abs(weights).reshape(-1, weights.shape[-1]).sum(axis=0)

    graph = resrep_keras.trace(model)
    scores = score_weights(graph, total)
    np.testing.assert_allclose(scores[graph.group("first").channels], [4.5, 10.5, 0.0])


def test_layers_whose_weights_are_unknown_give_no_score(model):
    graph = resrep_keras.trace(model)
    scores = score_weights(graph, lambda weights: np.ones(weights.shape[-1]))
    assert np.isfinite(scores).all()
    embedded = keras.Sequential([keras.Input((4,)), layers.Reshape((4, 1)), layers.LSTM(3)])
    scores = score_weights(resrep_keras.trace(embedded), lambda weights: np.ones(weights.shape[-1]))
    assert scores.tolist() == [1.0] * 3


@pytest.mark.parametrize("score", [lambda k: kernel_norm(k, 1), kernel_distance])
def test_weights_that_are_no_numbers_have_no_scores(score):
    kernel = np.ones((2, 3))
    kernel[0, 1] = np.nan
    assert np.isnan(score(kernel)).all()
