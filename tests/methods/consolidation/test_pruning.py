"""Percentages, stages and masks."""

import numpy as np
import pytest

from resrep_keras.methods.consolidation.pruning import (
    first_mask,
    later_mask,
    percent_of,
    stages_of,
)


def test_percentages_are_those_of_the_authors():
    found = [percent_of(task, 50, 0.8) for task in range(16)]
    assert found == [50, 40, 32, 25, 20, 16, 12, 9, 7, 5, 4, 3, 2, 1, 0, 0]


@pytest.mark.parametrize(
    ("percent", "step", "stages"),
    [
        (50, 10, [10, 20, 30, 40, 50]),
        (32, 10, [10, 20, 30, 40]),
        (7, 10, [10]),
        (0, 10, []),
        (50, 100, [100]),
        (95, 30, [30, 60, 90, 100]),
    ],
)
def test_stages_go_up_to_the_first_that_is_not_below(percent, step, stages):
    assert stages_of(percent, step) == stages


def test_the_first_task_frees_a_share_of_each_variable():
    scores = np.arange(1, 101.0)
    for percent in (10, 20, 50):
        mask = first_mask(scores, percent)
        assert (~mask).sum() == percent and mask[percent:].all()


def test_the_first_task_frees_what_has_no_score():
    scores = np.array([0, 0, 0, 0, 0, 0, 0, 3, 2, 1.0])
    assert first_mask(scores, 10).tolist() == 7 * [False] + 3 * [True]


def test_a_later_task_frees_only_what_was_free():
    scores = np.array([[1.0, 2, 3, 4], [0, 0.5, 9, 8]])
    needed = np.array([[True, False, False, False], [True, False, False, True]])
    # Free are 2, 3, 4, 0.5 and 9, whose percentile 50 is 3.
    expected = [[True, False, False, True], [True, False, True, True]]
    assert later_mask(scores, needed, 50).tolist() == expected
    assert later_mask(scores, np.ones((2, 4), bool), 90).all()
