"""Quantizations: what they make of a model, and what is refused before anything is converted."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.quantization import QUANTIZATIONS, check_quantization
from resrep_keras.tflite.run import TFLiteRunner

tensorflow_only = pytest.mark.tensorflow_only
generator = np.random.default_rng(0)
x = generator.normal(size=(20, 64)).astype("float32")


def wide():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,), name="a")
    hidden = layers.Dense(64, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="y")(hidden))


def rows():
    return ({"a": row[None]} for row in x)


# Bytes of each of 64 * 64 + 64 * 2 weights, and how far the outputs may be off.
EXPECTED = {
    "float16": (2, 2e-3),
    "dynamic": (1, 3e-2),
    "int8": (1, 6e-2),
    "int16x8": (1, 3e-2),
}


@tensorflow_only
@pytest.mark.parametrize("name", EXPECTED)
def test_weights_take_as_many_bytes_and_the_outputs_stay(name):
    model, (width, apart) = wide(), EXPECTED[name]
    content = to_tflite(model, quantization=QUANTIZATIONS[name], rows=rows)
    weights = width * (64 * 64 + 64 * 2)
    assert weights < len(content) < weights + 5_000
    runner = TFLiteRunner(content)
    expected = ops.convert_to_numpy(model(x))
    found = []
    for row in x:
        runner.set_inputs({"a": row[None]})
        runner.invoke()
        found.append(runner.outputs()["y"][0])
    difference = np.abs(np.array(found) - expected).max() / np.abs(expected).max()
    assert 0 < difference < apart
    assert runner.inner_floats() == () or name in ("float16", "dynamic")


@tensorflow_only
@pytest.mark.parametrize(("name", "kind"), [("int8", "uint8"), ("int16x8", "int16")])
def test_inputs_and_outputs_of_integers(name, kind):
    import tensorflow as tf

    model = wide()
    content = to_tflite(model, 4, quantization=QUANTIZATIONS[name], rows=rows, inference_type=kind)
    (detail,) = tf.lite.Interpreter(model_content=content).get_input_details()
    assert np.dtype(detail["dtype"]) == kind and list(detail["shape"]) == [4, 64]
    runner = TFLiteRunner(content)
    runner.set_inputs({"a": x[:4]})
    runner.invoke()
    expected = ops.convert_to_numpy(model(x[:4]))
    assert np.abs(runner.outputs()["y"] - expected).max() < 0.05 * np.abs(expected).max()


def test_only_what_is_read_off_examples_needs_them():
    assert [q.name for q in QUANTIZATIONS.values() if q.is_calibrated] == ["int8", "int16x8"]
    assert check_quantization(wide(), None) is None
    assert check_quantization(wide(), "dynamic").name == "dynamic"
    assert check_quantization(wide(), "int8", x, "uint8", sparse=True).name == "int8"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"name": "int4"}, ValueError, "'float16', 'dynamic', 'int8' or 'int16x8'; got 'int4'"),
        ({"name": 8}, TypeError, "Expected quantization to be"),
        ({"name": "int8"}, ValueError, r"Expected calibration_data with .*x_train\[:200\]"),
        (
            {"name": None, "inference_type": "int8"},
            ValueError,
            "quantization='int8' or 'int16x8' with inference_type='int8'; got quantization=None",
        ),
        (
            {"name": "int8", "calibration_data": x, "inference_type": "int16"},
            ValueError,
            "Expected inference_type to be 'int8' or 'uint8'; got 'int16'",
        ),
        ({"name": "dynamic", "sparse": True}, ValueError, "makes no sparse kernels"),
    ],
)
def test_what_cannot_be_is_refused(settings, error, text):
    with pytest.raises(error, match=text):
        check_quantization(wide(), **settings)


def test_text_has_no_range():
    text = keras.Input((1,), dtype="string", name="word")
    inputs = {"word": text, "size": keras.Input((3,), name="size")}
    model = keras.Model(inputs, layers.Dense(2)(inputs["size"]))
    with pytest.raises(ValueError, match=r"input 'word' of model .* takes text"):
        check_quantization(model, "int8", {"word": np.array([["a"]]), "size": np.ones((1, 3))})


@tensorflow_only
def test_a_loop_is_refused_before_it_ends_the_process():
    inputs = keras.Input((None, 2), name="a")
    model = keras.Model(inputs, layers.SimpleRNN(2)(inputs), name="looping")
    with pytest.raises(ValueError, match=r"(?s)Model 'looping' has a loop.*known number of time"):
        to_tflite(model, quantization=QUANTIZATIONS["int8"], rows=rows)
