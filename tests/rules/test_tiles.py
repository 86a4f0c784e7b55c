"""Blocks of positions that become channels, or channels that become positions."""

import numpy as np
import pytest
from keras import ops

from tests.rules.calls import IMAGE, Answer


@pytest.mark.parametrize(
    ("function", "ids"),
    [
        (lambda x: ops.space_to_depth(x, 2), [0, 1, 2, 3] * 4),
        (lambda x: ops.image.extract_patches(x, 2), [0, 1, 2, 3] * 4),
        (lambda x: ops.depth_to_space(x, 2), [0]),
    ],
)
def test_where_channels_go(function, ids):
    """As the entries of channels that hold their own number."""
    answer = Answer(function, IMAGE, channels=4)
    assert answer.ids() == ids
    values = np.broadcast_to(np.arange(4, dtype="float32"), (1, 4, 4, 4))
    made = ops.convert_to_numpy(answer.call.operation(ops.convert_to_tensor(values)))
    own = answer.made[made.astype(int)]
    np.testing.assert_array_equal(own, np.broadcast_to(ids, made.shape))


@pytest.mark.parametrize(
    ("function", "states"),
    [
        (lambda x: ops.depth_to_space(x, 2), {"FIXED"}),
        (lambda x: ops.space_to_depth(x, 2), {"CONSTANT"}),
        (lambda x: ops.image.extract_patches(x, 2), {"CONSTANT"}),
        (lambda x: ops.image.extract_patches(x, 3, padding="same"), {"FIXED"}),
    ],
)
def test_what_becomes_of_constants(function, states):
    assert Answer(function, IMAGE, channels=4, activation="sigmoid").states == states


def test_channels_first():
    """They lie along the first axis: here those of a layer that transposes has put there."""

    def function(x):
        return ops.space_to_depth(ops.transpose(x, (0, 3, 1, 2)), 2, "channels_first")

    answer = Answer(function, IMAGE, channels=3)
    assert answer.ids() == [0, 1, 2] * 4
    x = np.broadcast_to(np.arange(3, dtype="float32").reshape(1, 3, 1, 1), (1, 3, 4, 4))
    made = ops.convert_to_numpy(answer.call.operation(ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(made[0, :, 0, 0], [0, 1, 2] * 4)
