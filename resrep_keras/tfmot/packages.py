"""tf_keras and tfmot, imported in a way that leaves `tf.keras` to the user's process."""

import contextlib
import functools
import importlib
import os
import warnings
from unittest import mock

from resrep_keras.deploy.exchange import check_tensorflow

EXTRA = 'pip install "resrep-keras[tfmot]"'


def keras_2():
    """The package tf_keras, which is Keras 2.

    Raises:
        ImportError: It is not installed.
        ValueError: Keras runs on another backend than TensorFlow.
    """
    check_tensorflow("tf_keras")
    return _imported("tf_keras", "tf-keras")


@functools.cache
def model_optimization():
    """The package tensorflow_model_optimization, on tf_keras.

    By itself it sets an environment variable by which `tf.keras` becomes Keras 2 for all that runs
    in the process, and `tf.compat.v2.keras` too.

    Raises:
        ImportError: It, or tf_keras, is not installed.
        ValueError: Keras runs on another backend than TensorFlow.
    """
    with tensorflow_of_keras_2():
        return _imported("tensorflow_model_optimization", "tensorflow-model-optimization")


def _imported(module, package):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of how tfmot compares versions
            return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"This needs the package {package}: {EXTRA}. ({error})") from error


@contextlib.contextmanager
def tensorflow_of_keras_2():
    """While it lasts, TensorFlow's names for Keras mean Keras 2; then they are what they were.

    They are not looked up before: TensorFlow decides at the first use of each which Keras it is.
    tfmot uses them when it is imported, tf_keras when it builds some layers.
    """
    import tensorflow as tf

    tf_keras, older = keras_2(), importlib.import_module("tf_keras.api._v1.keras")
    places = ((tf, tf_keras), (tf.compat.v2, tf_keras), (tf.compat.v1, older))
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ))
        for place, meant in places:
            stack.enter_context(mock.patch.object(place, "keras", meant))
        yield
