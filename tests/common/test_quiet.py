"""A quiet call leaves statistics and losses alone."""

import keras
import numpy as np
from keras import layers

from resrep_keras.common.quiet import call_quietly


class Twice(layers.Layer):
    """Calls a layer, and once more quietly."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs, training=None):
        outputs = self.layer(inputs, training=training)
        self.averages = np.array(self.layer.moving_mean)
        return outputs, call_quietly(self.layer, inputs, training=training)


def test_no_statistic_and_no_loss():
    twice = Twice(layers.BatchNormalization(activity_regularizer="l2"))
    x = np.random.default_rng(0).normal(3.0, 1.0, (8, 4)).astype("float32")
    expected, quiet = twice(x, training=True)
    np.testing.assert_allclose(quiet, expected, atol=1e-6)
    assert len(twice.losses) == 1
    assert twice.averages.any() and np.array_equal(twice.averages, twice.layer.moving_mean)


def test_a_raw_operation_is_called():
    assert float(call_quietly(keras.ops.abs, keras.ops.convert_to_tensor(-2.0))) == 2
