"""Recurrent layers are written out, and compute the same."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.quantization import QUANTIZATIONS
from resrep_keras.tflite.run import TFLiteRunner
from resrep_keras.tflite.unrolled import MOST_STEPS, unrolled


def sequence():
    inputs = keras.Input((3, 4), name="a")
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(inputs)
    inner = keras.Sequential([keras.Input((3, 6)), layers.GRU(3, return_sequences=True)])
    x = layers.RNN(layers.StackedRNNCells([layers.LSTMCell(2), layers.GRUCell(3)]))(inner(x))
    return keras.Model(inputs, layers.Dense(2, name="y")(x))


def parts():
    inputs = keras.Input((2, 3, 4))
    return keras.Model(inputs, layers.TimeDistributed(layers.SimpleRNN(2))(inputs))


@pytest.mark.parametrize(("build", "number"), [(sequence, 3), (parts, 1)])
def test_all_are_written_out_and_compute_the_same(build, number):
    model = build()
    copy = unrolled(model)
    unrolls = str([layer.get_config() for layer in copy.layers])
    assert unrolls.count("'unroll': True") >= number and "'unroll': False" not in unrolls
    inputs = example_inputs(model)
    np.testing.assert_allclose(run(copy, inputs), run(model, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [None, MOST_STEPS + 1])
def test_what_is_long_or_of_unknown_length_stays(steps):
    inputs = keras.Input((steps, 4))
    model = keras.Model(inputs, layers.LSTM(3)(inputs))
    assert unrolled(model) is model


@pytest.mark.tensorflow_only
def test_a_recurrent_net_in_int8():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 2), name="a")
    model = keras.Model(inputs, layers.SimpleRNN(4, name="y")(inputs))
    x = np.random.default_rng(0).normal(size=(20, 1, 3, 2)).astype("float32")
    int8 = {"quantization": QUANTIZATIONS["int8"], "rows": lambda: ({"a": row} for row in x)}
    runner = TFLiteRunner(to_tflite(model, **int8))
    runner.set_inputs({"a": x[0]})
    runner.invoke()
    np.testing.assert_allclose(runner.outputs()["y"], run(model, x[0]), atol=0.1)
