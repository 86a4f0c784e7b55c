"""Sums, means and maxima over positions, and over channels."""

import numpy as np
import pytest
from keras import ops

from resrep_keras.surgery.narrow import corrections
from tests.rules.calls import IMAGE, ROW, SEQUENCE, Answer, mask, part


@pytest.mark.parametrize(
    ("function", "state"),
    [
        (lambda x: ops.mean(x, 1), "ZERO"),
        (lambda x: ops.std(x, (1, 2)), "ZERO"),
        (lambda x: ops.norm(x, axis=1), "ZERO"),
        (lambda x: ops.argmax(x, 1), "ZERO"),
        (lambda x: ops.logsumexp(x, 1), "CONSTANT"),
        (lambda x: ops.cumsum(x, 1), "ZERO"),
    ],
)
def test_over_positions_each_channel_stays_by_itself(function, state):
    answer = Answer(function, IMAGE)
    assert answer.ids() == [0, 1, 2] and answer.states == {state}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.sum(x, -1),
        lambda x: ops.mean(x, (1, 2), keepdims=True),
        lambda x: ops.norm(x, axis=-1),
        lambda x: ops.norm(x, ord=np.inf, axis=-1),
        lambda x: ops.max(ops.relu(x), -1),
    ],
)
def test_zeros_do_not_count(function):
    answer = Answer(function, SEQUENCE)
    assert not answer.graph.groups[0].pinned.any()
    assert [len(labels.ravel()) for labels in answer.call.gathered] == [3]
    assert [read.reader for read in answer.graph.read_channels] == []  # all of a producer's
    assert answer.call.outputs[0].labels.size == 1


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: ops.max(x, -1), "Max over channels, which zeros change"),
        (lambda x: ops.min(x, -1), "Min over channels"),
        (lambda x: ops.var(x, -1), "Var over channels"),
        (lambda x: ops.norm(x, ord=-1, axis=-1), "Norm over channels"),
        (lambda x: ops.argmax(x, -1), "Argmax over channels"),
        (lambda x: ops.cumsum(x, -1), "CumSum over channels"),
        (lambda x: ops.sum(x), "Sum over all examples together"),
        (lambda x: ops.normalize(x, order=-1), "a normalisation of order -1"),
    ],
)
def test_what_zeros_change_is_pinned(function, text):
    assert Answer(function, SEQUENCE).pins(text)


def test_one_channel_of_a_part_that_is_summed_stays():
    graph = Answer(lambda x: ops.max(ops.relu(x[..., :2]), -1), SEQUENCE).graph
    (read,) = graph.read_channels
    assert read.channels.tolist() == [0, 1] and read.reader.startswith("max")


@pytest.mark.parametrize(
    ("function", "number"),
    [
        (lambda x: ops.mean(x, -1), 2 / 3),
        (lambda x: ops.mean(x, (1, 2)), 2 / 3),
        (lambda x: ops.mean(x, 1), None),
        (lambda x: ops.sum(x, -1), None),
    ],
)
def test_a_mean_is_over_as_many_as_there_were(function, number):
    answer = Answer(function, SEQUENCE)
    left, change = {"mean": part(mask(1, 0, 1), mask(1, 0, 1), call=answer.call)}, {}
    found = corrections(answer.graph.recording, left, change)
    if number is None:
        assert not found and not change
    else:
        assert change["mean"]() == ({"name": "mean_share"}, None)
        np.testing.assert_allclose(found["mean"](np.float32([3.0])), [3 * number], rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "factor", "added"),
    [(lambda x: ops.sum(x, -1), 1, 6.0), (lambda x: ops.mean(x, -1), 2 / 3, 6 / 3)],
)
def test_what_removed_channels_hold_is_added(function, factor, added):
    answer = Answer(function, SEQUENCE)
    constants = np.full((1, *answer.call.output_shape[1:]), 6.0)
    given = part(mask(1, 0, 1), mask(1, 0, 1), call=answer.call, constants=constants)
    (found,) = corrections(answer.graph.recording, {answer.call.name: given}, {}).values()
    x = np.ones((2, *answer.call.output_shape[1:]), "float32")
    np.testing.assert_allclose(found(x), factor * x + added, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "folds"),
    [
        (lambda x: ops.sum(x, -1), True),
        (lambda x: ops.mean(x, (1, 2)), True),
        (lambda x: ops.norm(x, axis=-1), False),
        (lambda x: ops.max(x, -1), False),
    ],
)
def test_sums_and_means_alone_take_constants(function, folds):
    graph = Answer(lambda x: function(ops.sigmoid(x)), SEQUENCE).graph
    assert bool(graph.calls[-1].summed) is folds
    assert (graph.groups[0].reason is None) is folds


def test_a_constant_of_positions_of_any_number_is_not_added():
    graph = Answer(lambda x: ops.sum(ops.sigmoid(x), -1), (None, 3)).graph
    assert graph.groups[0].reason is not None


def test_parts_of_channels_along_several_axes_stay():
    answer = Answer(lambda x: ops.sum(ops.reshape(x, (-1, 3, 2)), -1), ROW, channels=6)
    assert answer.made.tolist() == [0, 0, 1, 1, 2, 2]
    assert answer.ids() == [0, 1, 2]
