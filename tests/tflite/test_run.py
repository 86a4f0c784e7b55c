"""Flatbuffers are run and timed."""

import functools

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.quantization import QUANTIZATIONS
from resrep_keras.tflite.run import TFLiteRunner, seconds_alone

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture
def content():
    a, b = keras.Input((2,), name="z"), keras.Input((3,), name="a")
    outputs = [layers.ReLU(name="y")(a), layers.ReLU(name="x")(b)]
    return to_tflite(keras.Model([a, b], outputs))


@pytest.mark.parametrize("threads", [1, 2])
def test_inputs_and_outputs_go_by_name(content, threads):
    runner = TFLiteRunner(content, threads)
    for sign in (1, -1):  # and again, on other values
        runner.set_inputs({"a": keras.ops.full((1, 3), 2.0), "z": np.full((1, 2), 1.0 * sign)})
        runner.invoke()
        outputs = runner.outputs()
        np.testing.assert_array_equal(outputs["y"], [[max(sign, 0)] * 2])
        np.testing.assert_array_equal(outputs["x"], [[2.0] * 3])


def test_random_inputs_fit_what_is_open():
    inputs = keras.Input((None, 2), name="a"), keras.Input((3,), dtype="int32", name="b")
    model = keras.Model(inputs, [layers.ReLU()(inputs[0]), layers.Identity()(inputs[1])])
    runner = TFLiteRunner(to_tflite(model, batch_size=None))
    given = runner.random_inputs(batch_size=5)
    assert {name: array.shape for name, array in given.items()} == {"a": (5, 64, 2), "b": (5, 3)}
    runner.set_inputs(given)
    runner.invoke()


def test_other_names_are_refused(content):
    with pytest.raises(ValueError, match="Expected the inputs a, z; got a, b"):
        TFLiteRunner(content).set_inputs({"a": [[0.0] * 3], "b": [[0.0] * 2]})


def test_a_file_that_cannot_be_prepared_is_told_with_a_reason():
    """The second convolution takes the difference of two equal channels: its scale is nothing."""
    inputs = keras.Input((8, 8, 1), name="a")
    x = layers.Conv2D(2, 3, kernel_initializer="ones")(inputs)
    difference = np.zeros((3, 3, 2, 2), "float32")
    difference[1, 1] = [[1, 1], [-1, -1]]
    x = layers.Conv2D(2, 3, kernel_initializer=keras.initializers.Constant(difference))(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(layers.ReLU()(x)))
    images = np.random.default_rng(0).uniform(size=(8, 8, 8, 1)).astype("float32")
    rows = functools.partial(map, lambda image: [image[None]], images)
    content = to_tflite(model, quantization=QUANTIZATIONS["int8"], rows=rows)
    with pytest.raises(ValueError, match=r"cannot prepare the file: .* calibration_data may be"):
        TFLiteRunner(content).set_inputs({"a": images[:1]})


def test_sizes_that_the_file_leaves_open_are_those_of_the_arrays():
    inputs = keras.Input((None, 2), name="a")
    runner = TFLiteRunner(to_tflite(keras.Model(inputs, layers.ReLU(name="y")(inputs))))
    for size in (3, 5):
        runner.set_inputs({"a": np.ones((1, size, 2))})
        runner.invoke()
        assert runner.outputs()["y"].shape == (1, size, 2)


def test_seconds_of_one_call(content):
    seconds = seconds_alone(content, seconds=0.001)
    assert 0 < seconds < 1
