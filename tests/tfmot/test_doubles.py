"""What float32 makes of a difference in rounding is no difference of two models."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras import tfmot
from resrep_keras.surgery.forward import example_inputs
from resrep_keras.tfmot.doubles import difference_in_float64
from resrep_keras.tfmot.packages import keras_2

pytestmark = pytest.mark.tensorflow_only
pytest.importorskip("tf_keras")


def far_from_zero(mean=1e4):
    """A batch normalisation of numbers whose mean is large beside their deviation."""
    inputs = keras.Input((3, 3, 2), name="image")
    first = layers.Conv2D(2, 1, name="first")
    norm = layers.BatchNormalization(epsilon=1e-6, name="norm")
    model = keras.Model(inputs, layers.Conv2D(3, 1, name="last")(norm(first(inputs))))
    first.set_weights([np.eye(2).reshape(1, 1, 2, 2), np.full(2, mean)])
    norm.moving_mean.assign([mean + 0.25, mean - 0.5])
    norm.moving_variance.assign([1e-4, 4e-4])
    return model


def apart(model, copy, inputs):
    one, other = (np.asarray(each(inputs, training=False)) for each in (model, copy))
    return np.abs(one - other).max() / np.abs(one).max()


def test_a_copy_that_rounds_otherwise_is_no_other_model():
    model = far_from_zero()
    copy, inputs = tfmot.to_tf_keras(model), example_inputs(model)
    assert apart(model, copy, inputs) > 1e-4  # by which it would be refused
    assert difference_in_float64(model, copy, inputs).relative < 1e-9
    assert keras_2().backend.floatx() == keras.config.floatx() == "float32"


def test_a_copy_that_computes_something_else_is_one():
    model = far_from_zero()
    copy, inputs = tfmot.to_tf_keras(model), example_inputs(model)
    copy.get_layer("last").set_weights([w * 1.01 for w in copy.get_layer("last").get_weights()])
    np.testing.assert_allclose(difference_in_float64(model, copy, inputs).relative, 0.01, rtol=1e-2)


def test_a_copy_that_holds_numbers_of_float32_stays_unjudged():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    tf_keras = keras_2()
    held = tf_keras.Input((2,))

    class Held(tf_keras.layers.Layer):
        def call(self, inputs):
            return inputs + keras.ops.convert_to_tensor(np.ones(2, "float32"))

    copy = tf_keras.Model(held, tf_keras.layers.Dense(3)(Held()(held)))
    assert difference_in_float64(model, copy, np.ones((2, 2), "float32")) is None
