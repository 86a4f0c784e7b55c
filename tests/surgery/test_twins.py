"""Copies that share what their originals share."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery.rebuild import rebuild


class Reader(layers.Layer):
    """Reads the kernel of another layer, in a list of such."""

    def __init__(self, read, **kwargs):
        super().__init__(**kwargs)
        self.read = list(read)

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.read[0].kernel))

    def get_config(self):
        read = [keras.saving.serialize_keras_object(layer) for layer in self.read]
        return {**super().get_config(), "read": read}

    @classmethod
    def from_config(cls, config):
        read = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("read")]
        return cls(read, **config)


def test_a_copy_reads_the_copy():
    inputs = keras.Input((6,))
    dense = layers.Dense(4, name="dense")
    model = keras.Model(inputs, Reader([dense], name="reader")(dense(inputs)))
    copy = rebuild(recording_of(model))
    assert copy.get_layer("reader").read[0] is copy.get_layer("dense") is not dense
    assert len(copy.weights) == len(model.weights) == 2
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-6)


def test_a_layer_that_is_first_called_behind_its_reader_is_the_one_that_was_read():
    inputs = keras.Input((6,))
    dense = layers.Dense(6, name="dense")
    dense.build((None, 6))
    model = keras.Model(inputs, dense(Reader([dense], name="reader")(inputs)))
    copy = rebuild(recording_of(model))
    assert copy.get_layer("reader").read[0] is copy.get_layer("dense") is not dense
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-5)


def test_operations_read_the_variables_of_the_copy():
    inputs = keras.Input((6,))
    dense = layers.Dense(6)
    model = keras.Model(inputs, ops.matmul(dense(inputs), dense.kernel))
    copy = rebuild(recording_of(model))
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    before = np.asarray(model(x))
    np.testing.assert_allclose(copy(x), before, rtol=1e-5)
    copy.weights[0].assign(np.zeros((6, 6)))
    assert not np.any(copy(x)) and np.any(before)
    np.testing.assert_array_equal(model(x), before)


def test_a_variable_of_no_layer_is_a_constant_of_the_copy():
    inputs = keras.Input((6,))
    free = keras.Variable(np.full((6, 4), 2.0, "float32"))
    model = keras.Model(inputs, layers.Dense(2)(ops.matmul(inputs, free)))
    copy = rebuild(recording_of(model))
    x = np.ones((1, 6), "float32")
    before = np.asarray(copy(x))
    np.testing.assert_allclose(before, model(x), rtol=1e-6)
    free.assign(np.zeros((6, 4)))
    np.testing.assert_array_equal(copy(x), before)


def test_a_variable_of_a_layer_that_is_called_later_is_refused():
    inputs = keras.Input((6,))
    dense = layers.Dense(6, name="dense")
    dense.build((None, 6))
    model = keras.Model(inputs, dense(ops.matmul(inputs, dense.kernel)))
    with pytest.raises(ValueError, match=r"reads the variable 'dense/kernel' .* called behind it"):
        rebuild(recording_of(model))
