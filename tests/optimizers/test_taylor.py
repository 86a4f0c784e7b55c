"""TaylorOptimizer: what it reads from gradients, against arithmetic by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.taylor import TaylorPruning
from resrep_keras.optimizers.wrapper import find_wrapper
from tests.updates import SCALES

each_scale = pytest.mark.parametrize("scale", SCALES)


def two_gates():
    """Outputs `relu(x W) v` of two inputs, with a compactor before the activation."""
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, activation="relu", use_bias=False, name="hidden")(inputs)
    dense = keras.Model(inputs, layers.Dense(1, use_bias=False, name="top")(hidden))
    dense.get_layer("hidden").set_weights([np.array([[1.0, 2, -1], [0, 1, 3]])])
    dense.get_layer("top").set_weights([np.array([[1.0], [-1], [2]])])
    return dense


@each_scale
def test_taylor_sums_squared_derivatives_by_the_gates(scale):
    """With the loss `mean (y - t)**2`, the derivative by a gate is `mean 2 (y - t) h_j v_j`."""
    optimizer, _ = SCALES[scale]
    model = resrep_keras.wrap(two_gates(), TaylorPruning(0.4))
    model.compile(optimizer(0.0), "mse")
    generator = np.random.default_rng(1)
    kernel, top = np.array([[1.0, 2, -1], [0, 1, 3]]), np.array([1.0, -1, 2])
    expected = np.zeros(3)
    for _ in range(4):
        x, target = generator.normal(size=(5, 2)), generator.normal(size=5)
        hidden = np.maximum(x @ kernel, 0)
        error = hidden @ top - target
        expected += (2 * error[:, None] * hidden * top).mean(axis=0) ** 2
        model.train_on_batch(x.astype("float32"), target[:, None].astype("float32"))
    found = model.method.scores(ChannelState(model), find_wrapper(model.optimizer))
    np.testing.assert_allclose(found[np.isfinite(found)], expected, rtol=1e-4)
