"""What will be logged is known before the first step, as far as Keras and the library log it."""

import pathlib

import keras
import pytest

from resrep_keras.methods.callback import FitCall, TrainingData
from resrep_keras.training.log_names import fields_of, missing_names


def fit_call(*callbacks, validates=True):
    return FitCall(callbacks, TrainingData(), validates)


def model(**settings):
    inputs = keras.Input((2,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
    found = keras.Model(inputs, outputs)
    found.compile("sgd", ["mse", "mse"], **settings)
    return found


def test_placeholders_of_the_last_part():
    assert fields_of(pathlib.Path("x{y}/best-{epoch:02d}-{val_loss:.3f}-{{z}}.keras")) == {
        "epoch",
        "val_loss",
    }


@pytest.mark.parametrize("name", ["{}", "{0}", "{epoch", "{val_loss:d}", "{epoch.x}", "{loss!q}"])
def test_placeholders_that_cannot_be_filled(name):
    with pytest.raises(ValueError, match=r"Expected placeholders such as \{epoch:02d\}"):
        fields_of(pathlib.Path(f"best-{name}.keras"))


def test_names_that_keras_and_the_method_log():
    def near(y_true, y_pred):
        return y_pred

    settings = {"metrics": [["mae"], [keras.metrics.AUC(name="area")]]}
    compiled = model(**settings, weighted_metrics=[[near], None])
    logged = {"epoch", "loss", "val_a_loss", "a_mae", "val_b_area", "a_near", "learning_rate"}
    assert missing_names(logged | {"macs_left", "own"}, compiled, fit_call(), ["own"]) == []
    assert missing_names({"nope", "val_nope", "b_auc"}, compiled, fit_call()) == [
        "b_auc",
        "nope",
        "val_nope",
    ]
    without = fit_call(validates=False)
    assert missing_names({"loss", "val_loss"}, compiled, without) == ["val_loss"]


def test_where_anything_may_be_logged_nothing_is_missing():
    class Own(keras.callbacks.Callback):
        pass

    assert missing_names({"nope"}, model(), None) == []
    assert missing_names({"nope"}, model(), fit_call(Own())) == []
    assert missing_names({"nope"}, model(), fit_call(keras.callbacks.History())) == ["nope"]
