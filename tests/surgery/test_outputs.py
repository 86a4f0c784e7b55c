"""What becomes of output channels: three ways, by hand."""

import numpy as np

from resrep_keras.surgery.outputs import Mixed, Scaled, Selected

MASK = np.array([True, False, True])
KERNEL = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # (inputs, outputs)


def test_selected_channels_stay_as_they_are():
    keep = Selected(MASK)
    assert keep.width == 2 and keep.only_selects
    np.testing.assert_array_equal(keep.take(KERNEL, 1), [[1, 3], [4, 6]])


def test_scaled_channels_are_multiplied():
    keep = Scaled(MASK, np.array([10.0, 100.0, -1.0]))
    assert keep.width == 2 and not keep.only_selects
    np.testing.assert_array_equal(keep.take(KERNEL, 1), [[10, -3], [40, -6]])
    np.testing.assert_array_equal(keep.take(KERNEL.T, 0), [[10, 40], [-3, -6]])


def test_a_mixed_channel_reads_all_old_ones():
    matrix = np.array([[1.0, 7.0, 0.0], [1.0, 7.0, 2.0], [0.0, 7.0, 1.0]])
    keep = Mixed(MASK, matrix)
    assert keep.width == 2 and not keep.only_selects
    # 1 + 2 and 2 * 2 + 3; 4 + 5 and 2 * 5 + 6
    np.testing.assert_array_equal(keep.take(KERNEL, 1), [[3, 7], [9, 16]])
    np.testing.assert_array_equal(keep.take(KERNEL.T, 0), [[3, 9], [7, 16]])
