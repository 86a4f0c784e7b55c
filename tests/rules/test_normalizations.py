"""Normalisations: which channels can go, and what becomes of scales and statistics."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.costs.file_size import may_be_folded
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import rule_of
from resrep_keras.rules.normalizations import axes_of
from resrep_keras.surgery.narrow import narrow, weights_of
from resrep_keras.surgery.outputs import Scaled
from tests import zoo
from tests.rules.calls import ROW, Answer, built, mask, part


def narrowed(layer, *args, **kwargs):
    return rule_of(narrow, layer)(layer, part(None, *args, **kwargs))


@pytest.mark.parametrize(("axis", "axes"), [(-1, [3]), ([1, -1], [1, 3]), ((2,), [2])])
def test_axes_are_counted_from_the_front(axis, axes):
    assert axes_of(layers.LayerNormalization(axis=axis), 4) == axes


def test_a_batch_normalisation_turns_zeros_into_constants():
    answer = Answer(layers.BatchNormalization(), ROW, channels=3, activation="relu")
    assert answer.ids() == [0, 1, 2] and answer.states == {"CONSTANT"}


def test_a_scaled_batch_normalisation_gets_scale_and_offset():
    layer = built(layers.BatchNormalization(scale=False, center=False), 3)
    factors = np.array([1.0, 2.0, 3.0])
    config, (scale, offset, mean, variance) = narrowed(layer, Scaled(mask(1, 1, 1), factors))
    assert config == {"scale": True, "center": True}
    np.testing.assert_array_equal(scale, factors)
    np.testing.assert_array_equal(offset, np.zeros(3))
    np.testing.assert_array_equal(mean, weights_of(layer)["moving_mean"])
    np.testing.assert_array_equal(variance, weights_of(layer)["moving_variance"])
    _, left = narrowed(layer, mask(0, 1, 0))
    assert [len(weight) for weight in left] == [1, 1]


def test_an_interpreter_folds_a_batch_normalisation_only():
    assert may_be_folded(layers.BatchNormalization()) and is_fused(layers.BatchNormalization())
    assert not may_be_folded(layers.LayerNormalization())


def test_layer_normalisation_is_pinned_unless_the_user_allows_it():
    x = inputs = keras.Input((7,))
    x = layers.LayerNormalization(name="norm")(layers.Dense(5, name="before")(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(6)(x)))
    assert [g.size for g in resrep_keras.trace(model).groups if g.prunable] == [6]
    free = resrep_keras.trace(model, exact=False).group("before")
    assert free.prunable and "LayerNormalization" in str(free.inexact)


def test_a_group_normalisation_gives_up_whole_groups():
    graph = resrep_keras.trace(zoo.build("normalisations"))
    channels = graph.groups[0].producers[0].channels.tolist()
    assert channels == [0, 0, 1, 1, 2, 2, 3, 3]  # 8 channels in 4 groups


def test_fewer_groups_are_left():
    layer = built(layers.GroupNormalization(2), 4)
    config, weights = narrowed(layer, mask(0, 0, 1, 1))
    assert config == {"groups": 1} and [len(weight) for weight in weights] == [2, 2]


def test_unit_normalisation_wants_zeros():
    def normalised(x):
        return layers.Dense(2)(layers.UnitNormalization()(x))

    assert Answer(normalised, ROW, activation="sigmoid").pins("no bias can hold")
    assert not Answer(normalised, ROW).pins("no bias can hold")


def test_a_mean_of_squares_over_fewer_channels_is_larger():
    """With half of the channels left, zeros no longer halve the mean."""
    layer = built(layers.RMSNormalization(epsilon=1e-2), 4)
    config, (scale,) = narrowed(layer, mask(1, 0, 1, 0))
    assert config == {"epsilon": 2e-2}
    np.testing.assert_allclose(scale, weights_of(layer)["scale"][[0, 2]] * np.sqrt(2))
