"""Layers of `keras.applications`."""

import numpy as np

from resrep_keras.graph.flow import rule_of
from resrep_keras.rules.applications import CUSTOM_SCALE, LAYER_SCALE, STOCHASTIC_DEPTH
from resrep_keras.surgery.narrow import narrow, weight_values
from tests.rules.calls import ROW, Answer, built, mask, part


def test_they_are_found_in_this_version_of_keras():
    assert all(len(kinds) == 1 for kinds in (LAYER_SCALE, STOCHASTIC_DEPTH, CUSTOM_SCALE))


def test_a_scale_and_a_depth_keep_channels_apart():
    for layer in (LAYER_SCALE[0](0.5, 3), STOCHASTIC_DEPTH[0](0.1)):
        answer = Answer(layer, ROW)
        assert answer.ids() == [0, 1, 2] and answer.states == {"ZERO"}


def test_a_scaled_sum_couples_channels():
    answer = Answer(CUSTOM_SCALE[0](0.3), ROW, ROW)
    assert answer.graph.num_channels == 3 and answer.ids() == [0, 1, 2]


def test_a_scale_is_narrowed():
    layer = built(LAYER_SCALE[0](0.5, 3), 3)
    config, (gamma,) = rule_of(narrow, layer)(layer, part(None, mask(1, 0, 1)))
    assert config == {"projection_dim": 2}
    np.testing.assert_array_equal(gamma, weight_values(layer)[0][[0, 2]])
