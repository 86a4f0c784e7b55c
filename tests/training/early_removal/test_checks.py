"""What cannot go with `slim_every` is refused in words."""

import types

import keras
import pytest

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.callback import PruningCallback
from tests.training.early_removal.models import compiled, train


def test_callbacks_that_keep_weights_of_wider_models_are_refused(tmp_path):
    for kind in (keras.callbacks.BackupAndRestore, resrep_keras.Backup):
        with pytest.raises(ValueError, match=f"{kind.__name__} keeps weights only"):
            train(compiled(), 2, callbacks=[kind(tmp_path)])
    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    with pytest.raises(ValueError, match="Set restore_best_weights=False or slim_every=None"):
        train(compiled(), 2, callbacks=[stopping])


@pytest.mark.tensorflow_only
def test_distributed_training_is_refused(monkeypatch):
    several = types.SimpleNamespace(num_replicas_in_sync=2)
    model = compiled()
    monkeypatch.setattr(type(model), "distribute_strategy", several)
    with pytest.raises(ValueError, match="is distributed"):
        train(model, 2)


def test_training_loops_of_ones_own_are_refused():
    callbacks = keras.callbacks.CallbackList([PruningCallback()], model=compiled())
    with pytest.raises(ValueError, match="Set slim_every=None in a training loop of your own"):
        callbacks.on_train_begin()


@pytest.mark.parametrize(
    ("slim_every", "error"), [(0, ValueError), (1.5, TypeError), ("often", TypeError)]
)
def test_slim_every_is_a_number_of_epochs(slim_every, error):
    with pytest.raises(error, match="Expected slim_every to be an int of 1 or more"):
        ResRep(slim_every=slim_every)
