"""Flatbuffers are run and timed."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.run import TFLiteRunner, _in_order, seconds_alone

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture
def content():
    a, b = keras.Input((2,), name="z"), keras.Input((3,), name="a")
    return to_tflite(keras.Model([a, b], [layers.ReLU()(a), layers.ReLU()(b)]))


@pytest.mark.parametrize("threads", [1, 2])
def test_inputs_and_outputs_go_by_position_not_by_name(content, threads):
    runner = TFLiteRunner(content, threads)
    for sign in (1, -1):  # and again, on other values
        runner.set_inputs([np.full((1, 2), 1.0 * sign), keras.ops.full((1, 3), 2.0)])
        runner.invoke()
        first, second = runner.outputs()
        np.testing.assert_array_equal(first, [[max(sign, 0)] * 2])
        np.testing.assert_array_equal(second, [[2.0] * 3])


def test_the_tenth_argument_stands_behind_the_ninth():
    details = {f"flat_{n}": n for n in (10, 2, 0, 9, 1)}
    assert _in_order(details) == [0, 1, 2, 9, 10]


def test_seconds_of_one_call(content):
    seconds = seconds_alone(content, seconds=0.001)
    assert 0 < seconds < 1
