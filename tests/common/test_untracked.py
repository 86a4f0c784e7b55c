"""Untracked values are no part of the layer or optimizer that holds them."""

import keras

from resrep_keras.common.untracked import Untracked


def test_a_value_is_the_same_object():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    value = {"names": ["a"], "numbers": (1, 2)}
    model.note = Untracked(value)
    assert model.note.value is value and type(model.note.value["names"]) is list


def test_keras_does_not_track_what_is_inside(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    counts = len(model.layers), len(model.weights), len(model.optimizer.variables)
    other = keras.layers.Dense(3)
    other.build((None, 2))
    model.note = Untracked([other])
    model.optimizer.note = Untracked(other.trainable_variables)
    assert counts == (len(model.layers), len(model.weights), len(model.optimizer.variables))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").count_params() == 3
