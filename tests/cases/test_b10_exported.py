"""Files are compared by the rule of certificates: what is no number in both tells nothing."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras

ENDINGS = [".keras", *([".tflite", ""] if keras.backend.backend() == "tensorflow" else [])]


def logarithms(shift):
    """Of an input below `-shift`, an output is not a number."""
    inputs = keras.Input((4,))
    dense = layers.Dense(3, kernel_initializer="ones")(inputs)
    return keras.Model(inputs, [dense, ops.log(inputs + shift)])


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_output_without_a_number_is_no_agreement(tmp_path, ending):
    model, path = logarithms(-1e6), tmp_path / f"model{ending}"
    with pytest.raises(ValueError, match="nothing but not-a-number on random inputs"):
        resrep_keras.export(model, path)
    assert not list(tmp_path.iterdir())
    data = np.full((5, 4), 2e6, "float32")
    assert resrep_keras.export(model, path, data=data) < 1e-5
    with pytest.raises(ValueError, match="nothing but not-a-number on data"):
        resrep_keras.export(model, path, data=-data)
    assert path.exists()


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_a_number_is_compared(tmp_path, ending):
    """Some of the random inputs are negative, some are not."""
    assert resrep_keras.export(logarithms(0.0), tmp_path / f"model{ending}") < 1e-5


def test_data_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected data to be arrays of the shapes"):
        resrep_keras.export(logarithms(0.0), tmp_path / "m.keras", data=np.ones((2, 5)))
