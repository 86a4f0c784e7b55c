"""Single choices of weights, against NumPy's sorting."""

import numpy as np
import pytest
from keras import ops

from resrep_keras.methods.sparse import masks as rules


@pytest.mark.parametrize("number", [0, 1, 3, 4, 7, 8])
def test_keep_largest_breaks_ties_by_position(number):
    scores = np.array([2, 1, 2, 5, 1, 2, 0, 2, -1, -1], "float32")
    order = np.argsort(-scores, kind="stable")
    expected = np.zeros(10, bool)
    expected[order[:number]] = True
    mask = rules.keep_largest(ops.convert_to_tensor(scores), number)
    np.testing.assert_array_equal(ops.convert_to_numpy(mask), expected)


@pytest.mark.parametrize("scale", [1e-38, 1e-6, 1.0, 1e30])
def test_keep_largest_of_many(scale):
    scores = scale * np.abs(np.random.default_rng(0).normal(size=5000)).astype("float32")
    scores[::7] = scores[0]
    for number in (1, 600, 4999):
        mask = ops.convert_to_numpy(rules.keep_largest(ops.convert_to_tensor(scores), number))
        order = np.argsort(-scores, kind="stable")
        np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(order[:number]))


def test_growth_never_takes_what_is_active_though_all_gradients_are_zero():
    mask = np.array([1, 0, 1, 0, 1, 0, 0, 1], bool)
    sizes = np.array([4, 0, 3, 0, 2, 0, 0, 1], "float32")
    new = rules.regenerate(
        *map(ops.convert_to_tensor, (mask, sizes, np.zeros(8, "float32"))), rate=0.5
    )
    # The two smallest are dropped; of equal gradients, those in front grow.
    np.testing.assert_array_equal(ops.convert_to_numpy(new), [1, 1, 1, 1, 0, 0, 0, 0])
