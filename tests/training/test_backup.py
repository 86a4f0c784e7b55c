"""Backup: what stands in its folder; whole runs are in `conditions/test_interruptions.py`."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.training.backup import seeds


def compiled():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((2,)), *layers])
    model.compile("sgd", "mse", jit_compile=False)
    return model


def fit(backup, epochs=2, **settings):
    x = np.ones((4, 2), "float32")
    model = compiled()
    model.fit(x, x[:, :1], epochs=epochs, verbose=0, callbacks=[backup], **settings)
    return model


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_backup_stands_and_nothing_beside_it(tmp_path):
    (tmp_path / ".backup.unfinished-of-a-killed-run").mkdir()
    backup = resrep_keras.Backup(tmp_path, delete_checkpoint=False)
    assert backup.epoch == 0
    fit(backup)
    assert backup.epoch == 2 and names(tmp_path) == ["epoch-2"]
    assert names(tmp_path / "epoch-2") == ["model.weights.h5", "state.npz"]


def test_a_write_that_fails_leaves_the_last_backup(tmp_path, monkeypatch):
    backup = resrep_keras.Backup(tmp_path, delete_checkpoint=False)
    fit(backup)

    def fail(path, **values):
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="the disk is full"):
        fit(backup, epochs=3, initial_epoch=2)
    assert names(tmp_path) == ["epoch-2"]


def test_what_others_put_into_the_folder_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fit(resrep_keras.Backup(tmp_path))
    assert names(tmp_path) == ["notes.txt"]


def test_seeds_are_the_variables_that_keras_writes_into_no_file():
    assert len(seeds(compiled())) == 1
