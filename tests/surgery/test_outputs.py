"""Selected, scaled and mixed channels, by hand."""

import numpy as np
import pytest

from resrep_keras.surgery.outputs import Mixed, Scaled, Selected

MASK = np.array([True, False, True])
WEIGHTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # two inputs, three channels


def test_selected_channels_stay_as_they_are():
    assert Selected(MASK).take(WEIGHTS, 1).tolist() == [[1, 3], [4, 6]]
    assert Selected(MASK).take(WEIGHTS.T, 0).tolist() == [[1, 4], [3, 6]]


def test_scaled_channels_are_multiplied():
    scaled = Scaled(MASK, np.array([10.0, 99.0, -1.0]))
    assert scaled.take(WEIGHTS, 1).tolist() == [[10, -3], [40, -6]]
    assert scaled.take(WEIGHTS.T, 0).tolist() == [[10, 40], [-3, -6]]


def test_mixed_channels_read_all():
    matrix = np.array([[1.0, 7.0, 0.0], [2.0, 7.0, 0.0], [0.0, 7.0, 3.0]])  # not symmetric
    # The first column is 1 * a + 2 * b, the third 3 * c; the second is removed.
    expected = [[1 + 2 * 2, 3 * 3], [4 + 2 * 5, 3 * 6]]
    assert Mixed(MASK, matrix).take(WEIGHTS, 1).tolist() == expected
    assert Mixed(MASK, matrix).take(WEIGHTS.T, 0).T.tolist() == expected


@pytest.mark.parametrize("kind", [Scaled(MASK, np.ones(3)), Mixed(MASK, np.eye(3))])
def test_with_an_identity_they_select(kind):
    np.testing.assert_array_equal(kind.take(WEIGHTS, 1), Selected(MASK).take(WEIGHTS, 1))
    assert kind.width == Selected(MASK).width == 2
    assert Selected(MASK).only_selects and not kind.only_selects
