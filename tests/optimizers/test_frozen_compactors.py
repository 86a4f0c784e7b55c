"""FrozenCompactorsOptimizer: compactors stay, everything else is trained as without it."""

import keras
import numpy as np
from keras import ops

from resrep_keras.layers.compactor import Compactor
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer


def built(inner):
    compactor = Compactor()
    compactor.build((None, 2))
    other = keras.Variable(np.array([1.0, 2.0]), name="kernel")
    optimizer = FrozenCompactorsOptimizer(inner)
    optimizer.build([compactor.kernel, other])
    return optimizer, compactor.kernel, other


def test_one_step_by_hand():
    optimizer, frozen, other = built(keras.optimizers.SGD(0.5))
    before = ops.convert_to_numpy(frozen).copy()
    optimizer.apply([ops.ones(frozen.shape), ops.convert_to_tensor([4.0, -2.0])], [frozen, other])
    np.testing.assert_array_equal(ops.convert_to_numpy(frozen), before)
    np.testing.assert_allclose(ops.convert_to_numpy(other), [1 - 0.5 * 4, 2 + 0.5 * 2])
    assert int(optimizer.steps) == 1


def test_compactors_have_no_slots():
    optimizer, frozen, other = built(keras.optimizers.Adam())
    shapes = [tuple(v.shape) for v in optimizer.inner_optimizer.variables]
    assert shapes.count(tuple(other.shape)) == 2  # two moments
    assert tuple(frozen.shape) not in shapes


def test_averages_leave_compactors_out():
    optimizer, frozen, other = built(keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5))
    before = ops.convert_to_numpy(frozen).copy()
    for _ in range(2):  # 1 2, then 0 1, then -1 0
        optimizer.apply([ops.ones(frozen.shape), ops.ones((2,))], [frozen, other])
    optimizer.finalize_variable_values([frozen, other])
    np.testing.assert_array_equal(ops.convert_to_numpy(frozen), before)
    found = ops.convert_to_numpy(other)
    np.testing.assert_allclose(found, [-0.5, 0.5])  # half of the first average, and of the last


def test_config_round_trip():
    optimizer = FrozenCompactorsOptimizer(keras.optimizers.SGD(0.25, momentum=0.5))
    copy = FrozenCompactorsOptimizer.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()
    assert float(copy.learning_rate) == 0.25
