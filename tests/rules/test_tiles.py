"""Blocks of positions that become channels, or channels that become positions."""

import numpy as np
import pytest
from keras import ops

from tests.rules.calls import IMAGE, Answer

NEW = pytest.mark.skipif("depth_to_space" not in vars(ops), reason="newer than this Keras")


@pytest.mark.parametrize(
    ("function", "ids"),
    [
        pytest.param(lambda x: ops.space_to_depth(x, 2), [0, 1, 2, 3] * 4, marks=NEW),
        (lambda x: ops.image.extract_patches(x, 2), [0, 1, 2, 3] * 4),
        pytest.param(lambda x: ops.depth_to_space(x, 2), [0], marks=NEW),
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
        pytest.param(lambda x: ops.depth_to_space(x, 2), {"FIXED"}, marks=NEW),
        pytest.param(lambda x: ops.space_to_depth(x, 2), {"CONSTANT"}, marks=NEW),
        (lambda x: ops.image.extract_patches(x, 2), {"CONSTANT"}),
        (lambda x: ops.image.extract_patches(x, 3, padding="same"), {"FIXED"}),
    ],
)
def test_what_becomes_of_constants(function, states):
    assert Answer(function, IMAGE, channels=4, activation="sigmoid").states == states


@NEW
@pytest.mark.parametrize("name", ["space_to_depth", "depth_to_space"])
def test_channels_first(name):
    """Backends have them in orders of their own."""

    def moved(x):
        return vars(ops)[name](ops.transpose(x, (0, 3, 1, 2)), 2, "channels_first")

    answer = Answer(moved, IMAGE, channels=8)
    x = np.broadcast_to(np.arange(8, dtype="float32").reshape(1, 8, 1, 1), (1, 8, 4, 4))
    made = ops.convert_to_numpy(answer.call.operation(ops.convert_to_tensor(x)))
    own = answer.made[made.astype(int)]
    ids = np.reshape(answer.ids(), (-1, 1, 1))
    np.testing.assert_array_equal(own[0], np.broadcast_to(ids, own[0].shape))
