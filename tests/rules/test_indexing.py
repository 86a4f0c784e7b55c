"""Entries that are taken, moved and repeated: where channels go, and what settings become."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests.rules.calls import IMAGE, ROW, SEQUENCE, Answer, changes, mask


@pytest.mark.parametrize(
    ("function", "positions", "ids"),
    [
        (lambda x: ops.flip(x, -1), ROW, [4, 3, 2, 1, 0]),
        (lambda x: ops.flip(x, (1, 2)), IMAGE, [0, 1, 2, 3, 4]),
        (lambda x: ops.roll(x, 2, -1), ROW, [3, 4, 0, 1, 2]),
        (lambda x: ops.roll(x, 1, 1), SEQUENCE, [0, 1, 2, 3, 4]),
        (lambda x: ops.tile(x, 2), ROW, [0, 1, 2, 3, 4] * 2),
        (lambda x: ops.repeat(x, 2, -1), ROW, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (lambda x: ops.repeat(x, [2, 0, 1, 0, 1], -1), ROW, [0, 0, 2, 4]),
        (lambda x: ops.take(x, np.array([4, -2, 0]), -1), ROW, [4, 3, 0]),
        (lambda x: ops.take(x, np.array([[1, 2], [0, 0]]), 1), SEQUENCE, [0, 1, 2, 3, 4]),
        (lambda x: ops.take(x, np.array([[0, 1]]), 0), SEQUENCE, [0, 1, 2, 3, 4]),
        (lambda x: x[:, None, :, None, 1:], SEQUENCE, [1, 2, 3, 4]),
        (lambda x: x[..., ::-1], ROW, [4, 3, 2, 1, 0]),
        (lambda x: x[..., -3:], ROW, [2, 3, 4]),
        (lambda x: ops.stack([x, x], 1), ROW, [0, 1, 2, 3, 4]),
    ],
)
def test_where_channels_go(function, positions, ids):
    answer = Answer(function, positions, channels=5)
    assert answer.ids() == ids and answer.states == {"ZERO"}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x[1:, :], "an indexing that is not made of slices"),
        (lambda x: x[:, 1::3], "a slice of channels with a step"),
        (lambda x: ops.unstack(x, axis=1)[0], "an unstacking of channels"),
        (lambda x: ops.take(x, np.array([[0, 1]]), -1), "a choice of channels by a table"),
        (
            lambda x: ops.take(np.ones((3, 4)), ops.cast(x, "int32"), 0),
            "a choice along the examples",
        ),
        (lambda x: ops.take(x, np.array([0])), "a choice along the examples"),
        (lambda x: ops.flip(x), "a flip of the examples"),
        (lambda x: ops.roll(x, 1), "a roll of the examples"),
        (lambda x: ops.tile(x, (2, 1)), "a tile along the examples"),
        (lambda x: ops.repeat(x, 2, 0), "a repetition along the examples"),
        (lambda x: ops.repeat(x, np.array([2, 0, 1, 0, 3]), -1), "made with tensors"),
        (lambda x: ops.one_hot(ops.cast(x, "int32"), 3), "numbers of classes"),
    ],
)
def test_what_cannot_lose_channels_is_pinned(function, text):
    assert Answer(function, ROW, channels=5).pins(text)


def test_one_channel_that_is_taken_stays_and_the_others_go():
    answer = Answer(lambda x: x[:, 3], ROW, channels=5)
    (group,) = answer.graph.groups
    assert group.pinned.tolist() == [False, False, False, True, False]
    assert changes(answer, keep_in=mask(1, 0, 0, 1, 1)) == {"key": (slice(None), 1)}
    answer = Answer(lambda x: ops.take(x, -2, -1), ROW, channels=5)
    assert answer.graph.groups[0].pinned.tolist() == group.pinned.tolist()
    assert changes(answer, keep_in=mask(1, 0, 0, 1, 1)) == {"indices": 1}


def test_channels_of_one_step_go_together():
    answer = Answer(lambda x: x[:, 1::2], ROW, channels=6)
    assert answer.made.tolist() == [0, 0, 1, 1, 2, 2]
    assert changes(answer, keep_in=mask(1, 1, 0, 0, 1, 1)) == {
        "key": (slice(None), slice(1, None, 2))
    }


def test_what_moved_moves_with_the_channels_that_are_left():
    keep = mask(0, 1, 1, 0, 1)
    answer = Answer(lambda x: ops.roll(x, 2, -1), ROW, channels=5)
    assert changes(answer, keep_in=keep) == {"shift": (1,), "axis": (1,)}
    answer = Answer(lambda x: ops.take(x, np.array([4, 3, 1, -1]), -1), ROW, channels=5)
    assert changes(answer, keep_in=keep)["indices"].tolist() == [2, 0, 2]
    answer = Answer(lambda x: ops.repeat(x, [2, 0, 1, 0, 3], -1), ROW, channels=5)
    assert changes(answer, keep_in=keep) == {"repeats": [0, 1, 3]}
    answer = Answer(lambda x: ops.repeat(x, 2, -1), ROW, channels=5)
    assert changes(answer, keep_in=keep) == {}


def test_stacked_tensors_have_constants_of_their_own():
    assert Answer(lambda x: ops.stack([x, 2 * x], 1), ROW, activation="sigmoid").states == {"FIXED"}


def test_halves_that_gate_each_other_go_together():
    answer = Answer(ops.glu, ROW, channels=6)
    assert answer.made.tolist() == [0, 1, 2, 0, 1, 2]
    assert answer.states == {"ZERO"} and answer.ids() == [0, 1, 2]


def test_an_array_in_a_row_stays():
    answer = Answer(lambda x: ops.concatenate([x, np.ones((4, 2), "float32")], -1), ROW)
    assert answer.ids() == [0, 1, 2, -1, -1]


def test_a_concatenation_puts_channels_in_a_row():
    answer = Answer(lambda pair: ops.concatenate(pair, axis=1), ROW, ROW)
    assert answer.ids() == [0, 1, 2, 3, 4, 5]


def test_the_kept_channels_of_a_slice_are_a_slice_of_the_kept_channels():
    answer = Answer(lambda x: x[:, 1:4], ROW, channels=5)
    assert answer.ids() == [1, 2, 3]
    keep = changes(answer, keep_in=mask(0, 1, 0, 1, 1))
    assert keep == {"key": (slice(None), slice(0, 2))}


def test_a_split_is_made_at_the_channels_that_are_left():
    answer = Answer(lambda x: ops.split(x, [2], axis=1), ROW, channels=5)
    assert answer.ids(0) == [0, 1] and answer.ids(1) == [2, 3, 4]
    assert changes(answer, widths=(1, 3)) == {"indices_or_sections": [1]}
    along_time = Answer(lambda x: ops.split(x, [2], axis=1), SEQUENCE)
    assert along_time.ids() == [0, 1, 2] and changes(along_time) == {}


def test_one_of_those_that_are_taken_stays():
    inputs = keras.Input((2,))
    x = ops.take(layers.Dense(5)(inputs), np.array([3, 1]), -1)
    x = layers.Dense(2)(ops.pad(x, ((0, 0), (1, 0))))
    graph = resrep_keras.trace(keras.Model(inputs, x))
    found = {tuple(read.channels.tolist()) for read in graph.read_channels}
    assert found == {(1, 3)}
