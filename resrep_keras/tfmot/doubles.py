"""difference_in_float64: whether a model and its copy in tf_keras are apart by rounding alone.

Keras 3 normalises by `x * a + b`, Keras 2 by `(x - mean) * a + b`: where a mean is large beside its
deviation, or a net is deep, float32 makes a visible difference of that.
"""

import contextlib

import keras
import numpy as np

from resrep_keras.surgery.forward import run
from resrep_keras.surgery.heads import largest_difference
from resrep_keras.tflite.precision import in_float64
from resrep_keras.tfmot.packages import keras_2, tensorflow_of_keras_2


def difference_in_float64(model, copy, inputs):
    """The `Difference` of both models where they compute in float64.

    Args:
        model: The Keras model.
        copy: Its copy in tf_keras, with the same weights.
        inputs: Inputs of both.

    Returns:
        `None` where the copy cannot be computed in float64, as one that holds numbers in float32.
    """
    expected = keras.tree.flatten(run(in_float64(model), inputs))
    with tensorflow_of_keras_2(), _floats_of_keras_2("float64"):
        try:
            outputs = _in_float64(copy)(inputs, training=False)
        except (TypeError, ValueError, NotImplementedError):
            return None
    found = [np.asarray(value, np.float64) for value in keras.tree.flatten(outputs)]
    return largest_difference(expected, found)


def _in_float64(copy):
    def as_float64(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    wide = keras_2().models.clone_model(copy, clone_function=as_float64)
    wide.set_weights(copy.get_weights())
    return wide


@contextlib.contextmanager
def _floats_of_keras_2(name):
    backend = keras_2().backend
    before = backend.floatx()
    backend.set_floatx(name)
    try:
        yield
    finally:
        backend.set_floatx(before)
