"""PrunedCheckpoint: what it writes; whole runs are in `conditions/test_callbacks.py`."""

import keras
import pytest

import resrep_keras
from resrep_keras.methods.callback_checks import unpruned_choice
from tests import zoo


def checkpoint(path, met=True):
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.MagnitudePruning(0.3))
    model.compile("sgd", "mse")
    best = resrep_keras.PrunedCheckpoint(path, monitor="loss")
    best.set_model(model)
    best.on_train_begin()
    best._pruning.target_met = lambda: met
    return best


def test_the_best_is_written_whole(tmp_path):
    best = checkpoint(tmp_path / "best-{epoch}.keras")
    for epoch, loss in enumerate([2.0, 3.0, 1.0]):
        best.on_epoch_end(epoch, {"loss": loss})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-1.keras", "best-3.keras"]
    assert keras.models.load_model(
        tmp_path / "best-3.keras"
    ).method == resrep_keras.MagnitudePruning(0.3)


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    best = checkpoint(tmp_path / "best.keras")

    def save(self, path, **kwargs):
        with open(path, "w") as file:
            file.write("half")
        raise ZeroDivisionError

    monkeypatch.setattr(keras.Model, "save", save)
    with pytest.raises(ZeroDivisionError):
        best.on_epoch_end(0, {"loss": 1.0})
    assert not list(tmp_path.iterdir()) and best.filepath == str(tmp_path / "best.keras")


def test_an_epoch_that_is_not_pruned_does_not_count(tmp_path):
    best = checkpoint(tmp_path / "best.keras", met=False)
    best.on_epoch_end(0, {"loss": 1.0})
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="The target was met in no epoch of this run"):
        best.on_train_end()


def test_it_is_not_warned_of(tmp_path):
    best = resrep_keras.PrunedCheckpoint(tmp_path / "best.keras")
    assert unpruned_choice(best, 3) is None
