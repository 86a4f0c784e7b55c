"""Helpers of narrow rules, and what a layer without a rule is told."""

import numpy as np
import pytest
from keras import layers

from resrep_keras.surgery.narrow import Part, narrow, take, weights_of, with_bias
from resrep_keras.surgery.outputs import Mixed, Selected

KERNEL = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # three inputs, two outputs
FIRST = np.array([True, False, True])


def test_take_knows_masks_and_what_becomes_of_outputs():
    np.testing.assert_array_equal(take(KERNEL, 0, FIRST), [[1, 2], [5, 6]])
    np.testing.assert_array_equal(take(KERNEL, 0, Selected(FIRST)), [[1, 2], [5, 6]])


def test_a_removed_constant_goes_into_the_bias():
    part = Part((FIRST,), Selected(np.ones(2, bool)), constants=np.array([9.0, 10.0, 9.0]))
    kernel, bias = with_bias(part, KERNEL, None, 0, 1)
    np.testing.assert_array_equal(kernel, [[1, 2], [5, 6]])
    np.testing.assert_array_equal(bias, [30, 40])  # 10 times the row that goes


def test_constants_are_mixed_and_the_shift_comes_last():
    mixed = Mixed(np.array([True, False]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    part = Part((FIRST,), mixed, constants=np.full(3, 10.0), shift=np.array([0.5]))
    kernel, bias = with_bias(part, KERNEL, np.array([1.0, 2.0]), 0, 1)
    np.testing.assert_array_equal(kernel, [[3], [11]])
    np.testing.assert_array_equal(bias, [1 + 2 + 30 + 40 + 0.5])


def test_no_bias_where_there_was_none_and_nothing_is_added():
    part = Part((FIRST,), Selected(np.ones(2, bool)))
    assert with_bias(part, KERNEL, None, 0, 1)[1] is None


def test_weights_have_the_last_part_of_their_paths():
    layer = layers.Dense(2, name="dense")
    layer.build((None, 3))
    assert sorted(weights_of(layer)) == ["bias", "kernel"]
    assert weights_of(layer)["kernel"].dtype == np.float64


def test_a_layer_without_a_rule_says_what_to_register():
    class Unknown(layers.Layer):
        pass

    with pytest.raises(ValueError, match=r"'odd' has no rule.*narrow.register\(Unknown\)"):
        narrow(Unknown(name="odd"), None)
