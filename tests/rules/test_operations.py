"""Raw operations: where channels go, and how settings that hold their number change."""

import pytest
from keras import ops

from tests.rules.calls import IMAGE, ROW, SEQUENCE, Answer, changes


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


def test_a_softmax_over_channels_is_pinned():
    assert Answer(lambda x: ops.softmax(x), ROW).pins("a softmax")


def test_a_border_of_a_resized_picture_is_no_constant():
    answer = Answer(lambda x: ops.image.resize(x, (6, 8), pad_to_aspect_ratio=True), IMAGE)
    assert answer.states == {"ZERO"}
    answer = Answer(
        lambda x: ops.image.resize(x, (6, 8), pad_to_aspect_ratio=True, fill_value=1.0), IMAGE
    )
    assert answer.states == {"FIXED"}


def test_a_reshape_has_the_sizes_that_are_left():
    answer = Answer(lambda x: ops.reshape(x, (-1, 16, 3)), IMAGE)
    assert changes(answer, output_shape=(None, 16, 2)) == {"newshape": (-1, 16, 2)}


def test_an_einsum_over_positions_has_channels_along_two_axes():
    answer = Answer(lambda pair: ops.einsum("abc,abd->acd", *pair), SEQUENCE, SEQUENCE)
    assert sorted(part.wide_axes for part in answer.call.outputs[0].parts) == [[1], [2]]
