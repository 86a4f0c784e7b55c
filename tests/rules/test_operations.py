"""Raw operations: where channels go, and how settings that hold their number change."""

import pytest
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.surgery.narrow import narrow
from tests.rules.calls import IMAGE, ROW, SEQUENCE, Answer, mask, part


def changes(answer, **more):
    operation = answer.call.operation
    return rule_of(narrow, operation)(operation, part(call=answer.call, **more))[0]


@pytest.mark.parametrize(
    ("function", "positions", "shape"),
    [
        (lambda x: ops.transpose(x, (0, 2, 1)), SEQUENCE, (None, 3, 5)),
        (lambda x: ops.swapaxes(x, 1, 2), SEQUENCE, (None, 3, 5)),
        (lambda x: ops.moveaxis(x, 3, 1), IMAGE, (None, 3, 4, 4)),
        (lambda x: ops.expand_dims(x, 1), ROW, (None, 1, 3)),
        (lambda x: ops.squeeze(x, 1), (1,), (None, 3)),
        (lambda x: ops.reshape(x, (-1, 16, 3)), IMAGE, (None, 16, 3)),
        (lambda x: ops.mean(x, axis=1), SEQUENCE, (None, 3)),
        (lambda x: ops.max(x, axis=(1, 2), keepdims=True), IMAGE, (None, 1, 1, 3)),
        (lambda x: ops.max_pool(x, 2), IMAGE, (None, 2, 2, 3)),
        (lambda x: ops.image.resize(x, (2, 2)), IMAGE, (None, 2, 2, 3)),
        (lambda x: ops.unstack(x, axis=1)[0], SEQUENCE, (None, 3)),
        (lambda x: x[:, 1:3], SEQUENCE, (None, 2, 3)),
        (ops.tanh, ROW, (None, 3)),
        (lambda x: 2.0 * x, ROW, (None, 3)),
    ],
)
def test_each_channel_stays_by_itself(function, positions, shape):
    answer = Answer(function, positions)
    assert answer.ids() == [0, 1, 2] and answer.states == {"ZERO"}
    assert answer.call.outputs[0].shape == shape


@pytest.mark.parametrize(
    ("function", "positions", "text"),
    [
        (lambda x: ops.sum(x, axis=-1), ROW, "Sum over channels"),
        (lambda x: ops.pad(x, ((0, 0), (1, 1))), ROW, "a padding of the channel axis"),
        (lambda x: x[:, ::2], ROW, "a slice of channels with a step"),
        (lambda x: x[:, 0], ROW, "an indexing of one channel"),
        (lambda x: ops.softmax(x), ROW, "a softmax"),
    ],
)
def test_what_mixes_channels_is_pinned(function, positions, text):
    assert Answer(function, positions).pins(text)


def test_functions_that_are_not_zero_at_zero_leave_constants():
    assert Answer(ops.exp, ROW).states == {"CONSTANT"}
    assert Answer(lambda x: x + 1.0, ROW).states == {"CONSTANT"}


def test_operations_of_two_tensors():
    assert Answer(lambda pair: ops.add(*pair), ROW, ROW).graph.num_channels == 3
    assert Answer(lambda pair: ops.multiply(*pair), ROW, ROW).graph.num_channels == 3
    assert Answer(lambda pair: ops.divide(*pair), ROW, ROW).pins("Divide of several tensors")


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


def test_a_reshape_has_the_sizes_that_are_left():
    answer = Answer(lambda x: ops.reshape(x, (-1, 16, 3)), IMAGE)
    assert changes(answer, output_shape=(None, 16, 2)) == {"newshape": (-1, 16, 2)}


def test_an_einsum_over_positions_has_channels_along_two_axes():
    answer = Answer(lambda pair: ops.einsum("abc,abd->acd", *pair), SEQUENCE, SEQUENCE)
    assert answer.pins("channels along several axes")
