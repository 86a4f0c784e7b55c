"""What is made of sizes alone is a tensor, made of one that has the size."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.graph.from_sizes import made_as_ever, made_of_sizes, ones_along, times_ones

MADE = {
    "arange": lambda n: ops.arange(n),
    "from one on": lambda n: ops.arange(1, n + 1, dtype="float32"),
    "in steps": lambda n: ops.arange(0, 2 * n, 2),
    "backwards": lambda n: ops.arange(0, -n, -1),
    "up to zero": lambda n: ops.arange(1 - n, 1),
    "ones": lambda n: ops.ones((n, 2)),
    "zeros": lambda n: ops.zeros((3, n), dtype="int32"),
    "full": lambda n: ops.full((n,), -np.inf),
    "truths": lambda n: ops.ones((n, n), dtype="bool"),
    "tri": lambda n: ops.tri(n),
    "tri, above": lambda n: ops.tri(n, 4, k=1, dtype="int32"),
    "eye": lambda n: ops.eye(n),
    "another axis": lambda n: ops.arange(n)[None],
    "a part": lambda n: ops.arange(n)[2:],
}


@pytest.mark.parametrize("name", MADE)
def test_a_graph_makes_it_of_any_size(name):
    tensor = keras.Input(batch_shape=(None, 31, 3))
    with made_of_sizes({31: (tensor, 1)}):
        made = MADE[name](31)
    assert isinstance(made, keras.KerasTensor)
    x = np.ones((2, 31, 3))
    found, expected = keras.Model(tensor, made)(x), MADE[name](31)
    np.testing.assert_allclose(found, expected)
    assert found.dtype == expected.dtype


def test_other_sizes_are_made_as_ever():
    own = ops.arange
    with made_of_sizes({31: (keras.Input((31,)), 1)}):
        assert ops.convert_to_numpy(ops.arange(5)).tolist() == [0, 1, 2, 3, 4]
        assert ops.convert_to_numpy(ops.ones((2, 1))).tolist() == [[1.0], [1.0]]
        assert ops.convert_to_numpy(ops.tri(2)).tolist() == [[1.0, 0.0], [1.0, 1.0]]
        with made_as_ever():
            assert ops.arange is own and ops.convert_to_numpy(ops.arange(31)).sum() == 31 * 15
        assert ops.arange is not own
    assert ops.arange is own


def test_ones_lie_along_an_axis():
    tensor = keras.Input((5, 3))
    column = keras.Model(tensor, times_ones(keras.ops.ones_like(tensor)[:1, :1], tensor, 1, 1, 3))
    x = np.zeros((2, 5, 3))
    assert keras.Model(tensor, ones_along(tensor, 2, "int32"))(x).shape == (3,)
    np.testing.assert_array_equal(column(x), np.ones((1, 5, 3)))
