"""Numbers of a matrix of accuracies, by arithmetic."""

import numpy as np
import pytest

import resrep_keras
from resrep_keras.methods.consolidation.metrics import (
    average_accuracy,
    forgetting,
    free_capacity,
    learning_accuracy,
)
from tests.methods.consolidation import nets

NAN = np.nan
# The second task has helped the first, the third has harmed both.
MATRIX = [[0.8, NAN, NAN], [0.9, 0.7, NAN], [0.6, 0.3, 0.75]]


def test_of_three_tasks():
    assert average_accuracy(MATRIX) == pytest.approx((0.6 + 0.3 + 0.75) / 3)
    assert forgetting(MATRIX) == pytest.approx(((0.9 - 0.6) + (0.7 - 0.3)) / 2)
    assert learning_accuracy(MATRIX) == pytest.approx((0.8 + 0.7 + 0.75) / 3)


def test_of_the_first_tasks_alone():
    first = np.array(MATRIX)[:2]  # three columns still
    assert average_accuracy(first) == pytest.approx((0.9 + 0.7) / 2)
    assert forgetting(first) == pytest.approx(0.8 - 0.9)  # below zero: it was helped
    assert learning_accuracy(first) == pytest.approx((0.8 + 0.7) / 2)
    assert forgetting(first[:1]) == 0.0
    assert average_accuracy(first[:1]) == learning_accuracy(first[:1]) == 0.8


def test_what_is_not_yet_learned_counts_for_nothing():
    told = np.where(np.isnan(MATRIX), 0.1, MATRIX)  # untrained heads have an accuracy, too
    for number in (average_accuracy, forgetting, learning_accuracy):
        assert number(told) == number(MATRIX)


@pytest.mark.parametrize("number", [average_accuracy, forgetting, learning_accuracy])
@pytest.mark.parametrize(
    ("accuracies", "text"),
    [
        ([0.5, 0.6], r"shape \(tasks learned, tasks\).*got one of shape \(2,\)"),
        (np.zeros((0, 2)), r"at least one row.*got one of shape \(0, 2\)"),
        (np.zeros((3, 2)), r"no more than columns; got one of shape \(3, 2\)"),
        ([[0.5, NAN], [NAN, 0.5]], r"\[1, 0\], on task 0 after task 1, is nan"),
    ],
)
def test_other_arrays_are_refused(number, accuracies, text):
    with pytest.raises(ValueError, match=text):
        number(accuracies)


def test_texts_are_refused():
    with pytest.raises(TypeError, match="accuracies to be an array of numbers"):
        average_accuracy([["good"]])


def test_free_are_the_weights_without_importance():
    model = nets.wrapped(resrep_keras.MAS(1.0))
    with pytest.raises(ValueError, match="has not been trained"):
        free_capacity(model)
    nets.fit(model)
    assert free_capacity(model) == 1.0  # no task has ended
    held = model.optimizer.held
    for each in held:
        each.importance.assign(np.ones(each.importance.shape))
    assert free_capacity(model) == 0.0
    first = held[0].importance  # the kernel (5, 12) of a trunk 5-12-8
    first.assign(np.where(np.arange(60).reshape(5, 12) < 15, 0, 1))
    assert free_capacity(model) == 15 / ((5 + 1) * 12 + (12 + 1) * 8)


def test_other_models_have_no_free_capacity():
    model = nets.dense_model()
    with pytest.raises(TypeError, match="model to be a compiled model wrapped with ANPyC, EWC"):
        free_capacity(model)
