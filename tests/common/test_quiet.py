"""A quiet call leaves statistics and losses alone."""

import keras
import numpy as np
from keras import layers

from resrep_keras.common.quiet import call_quietly


def test_no_statistic_and_no_loss():
    layer = layers.BatchNormalization(activity_regularizer="l2")
    x = np.random.default_rng(0).normal(3.0, 1.0, (8, 4)).astype("float32")
    expected = layer(x, training=True)
    before, losses = np.array(layer.moving_mean), len(layer.losses)
    quiet = call_quietly(layer, x, training=True)
    np.testing.assert_allclose(quiet, expected, atol=1e-6)
    assert losses == 1 and len(layer.losses) == 1
    assert before.any() and np.array_equal(before, layer.moving_mean)


def test_a_raw_operation_is_called():
    assert float(call_quietly(keras.ops.abs, keras.ops.convert_to_tensor(-2.0))) == 2
