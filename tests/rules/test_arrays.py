"""Operations entry by entry: constants that lie along channels, and several tensors."""

import numpy as np
import pytest
from keras import ops

from tests.rules.calls import ROW, SEQUENCE, Answer, changes, mask

THREE = np.float32([1, 2, 3])
TABLE = np.arange(15, dtype="float32").reshape(5, 3)


@pytest.mark.parametrize(
    ("function", "states"),
    [
        (lambda x: x * THREE, {"ZERO"}),
        (lambda x: x + THREE, {"CONSTANT"}),
        (lambda x: x + np.float32([0, 0, 1]), {"ZERO", "CONSTANT"}),
        (lambda x: x + TABLE, {"FIXED"}),
        (lambda x: x * TABLE, {"ZERO"}),
        (lambda x: ops.where(THREE > 1, x, 0.0), {"ZERO"}),
        (lambda x: ops.where(x > 1, x, 0.0), {"ZERO"}),
        (lambda x: ops.where(x > 1, x, 1.0), {"CONSTANT"}),
        (ops.exp, {"CONSTANT"}),
        (lambda x: x + 1.0, {"CONSTANT"}),
        (ops.zeros_like, {"ZERO"}),
    ],
)
def test_what_becomes_of_zeros(function, states):
    answer = Answer(function, SEQUENCE)
    assert answer.ids() == [0, 1, 2] and answer.states == states


@pytest.mark.parametrize(
    ("function", "states"), [(lambda x: x * THREE, {"CONSTANT"}), (lambda x: x * TABLE, {"FIXED"})]
)
def test_what_becomes_of_constants(function, states):
    assert Answer(function, SEQUENCE, activation="sigmoid").states == states


def test_a_channel_without_a_value_at_zero_stays():
    answer = Answer(lambda x: ops.log(x + np.float32([0, 1, 1])), ROW)
    assert not answer.pins("could not be tried")
    answer = Answer(lambda x: x / np.float32([0, 1, 1]), ROW)
    assert answer.graph.groups[0].pinned.tolist() == [True, True, True]  # the output
    assert answer.pins("whose value at zero is no finite number")


def test_arrays_are_narrowed_by_their_names():
    keep = mask(1, 0, 1)
    found = changes(Answer(lambda x: ops.subtract(THREE, x), ROW), keep_out=keep)
    assert {name: array.tolist() for name, array in found.items()} == {"x1": [1, 3]}
    found = changes(Answer(lambda x: ops.add(x, x2=TABLE), SEQUENCE), keep_out=keep)
    assert found["x2"].tolist() == TABLE[:, [0, 2]].tolist()
    found = changes(Answer(lambda x: x * np.ones((5, 1), "float32"), SEQUENCE), keep_out=keep)
    assert found == {}


def test_an_array_along_the_examples_is_pinned():
    assert Answer(lambda x: x * np.ones((4, 3), "float32"), ROW).pins("axis of the examples")


def test_operations_of_two_tensors():
    assert Answer(lambda pair: ops.add(*pair), ROW, ROW).graph.num_channels == 3
    assert Answer(lambda pair: ops.multiply(*pair), ROW, ROW).graph.num_channels == 3
    greater = Answer(lambda pair: ops.greater(*pair), ROW, ROW)
    assert greater.graph.num_channels == 3 and greater.states == {"ZERO"}
    assert Answer(lambda pair: ops.equal(*pair), ROW, ROW).states == {"CONSTANT"}
    assert Answer(lambda pair: ops.mod(*pair), ROW, ROW).pins("no finite number")


def test_a_divisor_must_not_vanish():
    assert Answer(lambda pair: ops.divide(*pair), ROW, ROW).pins("a division by channels")
    above = Answer(lambda pair: pair[0] / ops.sqrt(ops.exp(pair[1]) + 1.0), ROW, ROW)
    assert above.graph.num_channels == 3 and above.states == {"ZERO"}
    vanishing = Answer(lambda pair: pair[0] / (ops.exp(pair[1]) - 1.0), ROW, ROW)
    assert vanishing.pins("a division by channels")
