"""What a run writes at its end is tried before its first step."""

import os

import keras
import numpy as np
import pytest

import resrep_keras
from tests import zoo

x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
y = np.zeros((8, 3), "float32")


class Steps(keras.callbacks.History):
    """Counts the steps of a run."""

    __module__ = "keras"  # logs nothing, as Keras's own callbacks

    def __init__(self):
        super().__init__()
        self.steps = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1


def fit(callback, dense=None, **settings):
    model = resrep_keras.wrap(dense or zoo.build("chain"), resrep_keras.MagnitudePruning(0.3))
    model.compile("sgd", "mse", metrics=["mae"])
    steps = Steps()
    try:
        model.fit(x, y, epochs=3, batch_size=4, verbose=0, callbacks=[callback, steps], **settings)
    finally:
        fit.steps = steps.steps


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["x{nope}.keras", "x-{val_mae:.2f}.keras", "x-{mse}.keras"])
def test_names_that_no_log_will_have(tmp_path, name):
    best = resrep_keras.PrunedCheckpoint(tmp_path / name, monitor="loss")
    with pytest.raises(ValueError, match=r"asks for (nope|val_mae|mse), which no log of this run"):
        fit(best)
    assert fit.steps == 0 and not names(tmp_path)


@pytest.mark.parametrize("name", ["x{}.keras", "x{epoch.keras", "x{loss:d}.keras"])
def test_placeholders_that_cannot_be_filled(tmp_path, name):
    with pytest.raises(ValueError, match="Expected placeholders"):
        resrep_keras.PrunedCheckpoint(tmp_path / name)


def test_a_monitor_without_validation_data(tmp_path):
    with pytest.raises(ValueError, match=r"asks for val_loss.*where fit is given validation data"):
        fit(resrep_keras.PrunedCheckpoint(tmp_path / "best.keras"))
    assert fit.steps == 0 and not names(tmp_path)


def test_names_that_the_logs_have_are_filled_in(tmp_path):
    folder = tmp_path / "a{b}"
    name = "best-{epoch:02d}-{val_mae:.0f}-{macs_left:.1f}.keras"
    best = resrep_keras.PrunedCheckpoint(folder / name, monitor="val_loss")
    fit(best, validation_data=(x, y), validation_freq=2)
    assert fit.steps == 6
    assert names(folder) and all(n.startswith("best-02-") for n in names(folder))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    for callback in (
        resrep_keras.PrunedCheckpoint(tmp_path / "file" / "best.keras", monitor="loss"),
        resrep_keras.Backup(tmp_path / "file"),
    ):
        with pytest.raises(ValueError, match="nothing can be written in"):
            fit(callback)
        assert fit.steps == 0
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_that_name(tmp_path):
    (tmp_path / "best.keras" / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"best.keras' is a folder"):
        fit(resrep_keras.PrunedCheckpoint(tmp_path / "best.keras", monitor="loss"))
    assert fit.steps == 0 and os.listdir(tmp_path / "best.keras") == ["mine"]


def test_a_model_that_cannot_be_saved(tmp_path, monkeypatch):
    def save(self, *args, **kwargs):
        raise NotImplementedError("no configuration")

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(ValueError, match=r"cannot be saved.*The error was: no configuration"):
        fit(resrep_keras.PrunedCheckpoint(tmp_path / "best.keras", monitor="loss"))
    assert fit.steps == 0 and not names(tmp_path)


class Setting:
    """Something that JSON cannot hold."""


def test_settings_that_cannot_be_saved_are_refused_at_wrap():
    method = resrep_keras.MagnitudePruning(0.3)
    method.min_channels = {"conv*": Setting()}
    with pytest.raises(TypeError, match="settings of MagnitudePruning cannot be saved"):
        resrep_keras.wrap(zoo.build("chain"), method)


def no_heads(layer):
    return layer.name.startswith("dense")


def test_numbers_of_numpy_and_functions_are_saved(tmp_path):
    method = resrep_keras.MagnitudePruning(
        np.float32(0.25),
        min_channels={"*": np.int64(2)},
        min_share=np.float64(0.1),
        total_steps=np.int32(40),
        exclude=no_heads,
    )
    model = resrep_keras.wrap(zoo.build("chain"), method)
    model.save(tmp_path / "wrapped.keras")
    with keras.saving.custom_object_scope({"no_heads": no_heads}):
        loaded = keras.models.load_model(tmp_path / "wrapped.keras").method
    assert loaded == method and (loaded.total_steps, loaded.min_channels) == (40, {"*": 2})
    assert type(loaded.target_reduction) is float and loaded.exclude is no_heads
