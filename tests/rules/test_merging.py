"""Layers of several inputs."""

import pytest
from keras import layers, ops

from resrep_keras.graph.flow import flow
from tests.rules.calls import ROW, SEQUENCE, Answer


@pytest.mark.parametrize(
    "kind", [layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum]
)
def test_sums_couple_channels(kind):
    answer = Answer(kind(), ROW, ROW)
    assert answer.graph.num_channels == 3 and answer.ids() == [0, 1, 2]


def test_a_product_couples_channels():
    answer = Answer(layers.Multiply(), ROW, ROW)
    assert answer.graph.num_channels == 3
    assert answer.graph.groups[0].producers[1].follows


def test_a_concatenation_puts_channels_in_a_row():
    assert Answer(layers.Concatenate(), ROW, ROW).ids() == [0, 1, 2, 3, 4, 5]


def test_a_concatenation_of_positions_couples_channels():
    answer = Answer(layers.Concatenate(axis=1), SEQUENCE, SEQUENCE)
    assert answer.graph.num_channels == 3 and answer.ids() == [0, 1, 2]
    assert answer.call.outputs[0].shape == (None, 10, 3) and answer.states == {"ZERO"}
    constants = Answer(layers.Concatenate(axis=1), SEQUENCE, SEQUENCE, activation="sigmoid")
    assert constants.states == {"FIXED"}  # those of one tensor may be others


def test_a_dot_over_channels_couples_them():
    answer = Answer(layers.Dot(2), SEQUENCE, SEQUENCE)
    assert answer.graph.num_channels == 3
    assert answer.call.outputs[0].labels.size == 1  # scores, which carry none


def test_of_the_factors_of_a_sum_one_needs_a_compactor():
    """Zero times anything is zero; so heads that are zero in the values alone may go."""
    (group,) = Answer(layers.Dot(2), SEQUENCE, SEQUENCE).graph.groups
    assert [producer.follows for producer in group.producers] == [False, True]
    assert not group.coupled and len(group.sites) == 1


def test_a_sum_over_channels_of_one_factor_keeps_none():
    def summed(pair):
        return ops.einsum("abc,abd->abd", pair[0], ops.relu(pair[1]))

    answer = Answer(summed, SEQUENCE, SEQUENCE)
    assert sorted(group.pinned.any() for group in answer.graph.groups) == [False, True]
    assert answer.graph.num_channels == 6 and len(answer.call.gathered) == 1


def test_a_dot_over_positions_has_channels_along_two_axes():
    out = Answer(layers.Dot(1), SEQUENCE, SEQUENCE).call.outputs[0]
    assert sorted(part.wide_axes for part in out.parts) == [[1], [2]]


def test_all_merging_layers_of_keras_have_a_rule():
    for name in "Add Average Concatenate Dot Maximum Minimum Multiply Subtract".split():
        assert vars(layers)[name] in flow.registry, name
