"""Padding: new channels, borders, and what a maximum does not take."""

import numpy as np
import pytest
from keras import layers, ops

from tests.rules.calls import IMAGE, ROW, Answer, changes, mask

BORDER = ((0, 0), (1, 1), (1, 1), (0, 0))


def test_new_channels_are_as_many_as_are_left_of_them():
    answer = Answer(lambda x: ops.pad(x, ((0, 0), (1, 2))), ROW)
    labels = answer.call.outputs[0].labels.ravel()
    assert len(set(labels.tolist())) == 6 and answer.states == {"ZERO"}
    assert answer.ids() == [-1, 0, 1, 2, -1, -1]  # nothing makes them
    keep = mask(0, 1, 0, 1, 1, 0)
    assert changes(answer, keep_out=keep) == {"pad_width": ((0, 0), (0, 1))}


def test_new_channels_of_a_value_are_constants():
    answer = Answer(lambda x: ops.pad(x, ((0, 0), (0, 1)), constant_values=2.0), ROW)
    assert answer.call.outputs[0].state.ravel().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("value", "activation", "states"),
    [(0, None, {"ZERO"}), (0, "sigmoid", {"FIXED"}), (3, None, {"FIXED"})],
)
def test_borders(value, activation, states):
    answer = Answer(
        lambda x: ops.pad(x, BORDER, constant_values=value), IMAGE, activation=activation
    )
    assert answer.states == states


def test_other_channels_at_the_ends_are_pinned():
    answer = Answer(lambda x: ops.pad(x, ((0, 0), (1, 1)), mode="reflect"), ROW)
    assert answer.pins("by other channels")
    assert Answer(lambda x: ops.pad(x, ((1, 0), (0, 0))), ROW).pins("of the examples")


@pytest.mark.parametrize("pool", [layers.MaxPooling2D(3, 2), lambda x: ops.max_pool(x, 3, 2)])
@pytest.mark.parametrize(
    ("value", "activation", "state"),
    [
        (-np.inf, None, "ZERO"),
        (-np.inf, "sigmoid", "CONSTANT"),
        (-1, None, "ZERO"),
        (1, None, "FIXED"),
    ],
)
def test_a_maximum_does_not_take_what_is_lower(pool, value, activation, state):
    def padded(x):
        return pool(ops.pad(x, BORDER, constant_values=value))

    assert Answer(padded, IMAGE, activation=activation).states == {state}


def test_a_window_that_is_all_padding_takes_it():
    def padded(x):
        return ops.max_pool(ops.pad(x, BORDER, constant_values=-np.inf), 1)

    assert Answer(padded, IMAGE).states == {"FIXED"}
