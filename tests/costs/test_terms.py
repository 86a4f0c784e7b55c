"""Sums of products of channel counts, by hand."""

import types

import numpy as np
import pytest

from resrep_keras.costs.terms import Term, TermSum

# Labels 0 1 2 are channels 0 1 2, labels 3 4 channels 3 4; label 5 is pinned for good.
GRAPH = types.SimpleNamespace(channel_of=np.array([0, 1, 2, 3, 4, -1]))
FIRST, SECOND, PINNED = np.array([0, 1, 2]), np.array([3, 4]), np.array([5])
KEPT = np.array([True, False, True, False, True])


@pytest.fixture
def cost():
    return TermSum(
        GRAPH,
        [
            ("conv", Term(10, (FIRST, SECOND))),  # 10 * 3 * 2
            ("conv", Term(1, (SECOND,))),  # its bias
            ("dense", Term(7, (SECOND, PINNED))),  # 7 * 2 * 1
            ("fixed", Term(5, ())),
        ],
    )


def test_dense(cost):
    assert cost() == 10 * 3 * 2 + 2 + 7 * 2 * 1 + 5
    assert cost.by_layer() == {"conv": 62, "dense": 14, "fixed": 5}


def test_with_fewer_channels(cost):
    assert cost.values(KEPT).tolist() == [10 * 2 * 1, 1, 7 * 1 * 1, 5]
    assert cost(KEPT) == 20 + 1 + 7 + 5
    assert cost.by_layer(KEPT) == {"conv": 21, "dense": 7, "fixed": 5}


def test_what_is_pinned_stays(cost):
    assert cost(np.zeros(5, bool)) == 5
    alone = TermSum(GRAPH, [("top", Term(3, (PINNED,)))])
    assert alone(np.zeros(5, bool)) == alone() == 3


def test_a_square_counts_its_labels_twice():
    assert TermSum(GRAPH, [("compactor", Term(2, (FIRST, FIRST)))])(KEPT) == 2 * 2 * 2


def test_labels_that_share_a_channel_count_each():
    flattened = np.array([[0, 1, 0, 1]])
    assert TermSum(GRAPH, [("dense", Term(1, (flattened,)))])(KEPT) == 2


def test_a_share_of_a_unit_is_rounded_in_the_sum_only():
    thirds = TermSum(GRAPH, [("a", Term(1 / 3, (FIRST,))), ("b", Term(1 / 3, (FIRST,)))])
    assert thirds() == 2 and thirds(KEPT) == round(4 / 3)


def test_no_terms_cost_nothing():
    empty = TermSum(GRAPH, [])
    assert empty() == 0 and empty(KEPT) == 0 and empty.by_layer() == {}
