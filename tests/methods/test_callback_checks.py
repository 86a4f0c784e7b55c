"""Callbacks that would undo a pruning run are known, one at a time."""

import keras
import pytest

import resrep_keras
from resrep_keras.methods import callback_checks as checks


@pytest.mark.parametrize(
    ("settings", "danger"),
    [
        ({"patience": 1}, "could stop at"),
        ({"patience": 9}, None),
        ({"restore_best_weights": True}, "would restore the weights of"),
        ({"restore_best_weights": True, "start_from_epoch": 5}, None),
    ],
)
def test_early_stopping_before_an_epoch(settings, danger):
    found = checks.unpruned_choice(keras.callbacks.EarlyStopping(**settings), 5)
    assert (found and found[0]) == danger


def test_other_callbacks_choose_nothing():
    with_all = keras.callbacks.ModelCheckpoint("model.keras")
    assert checks.unpruned_choice(with_all, 5) is None
    assert checks.unpruned_choice(keras.callbacks.CSVLogger("log.csv"), 5) is None


def test_each_choice_is_warned_of():
    best = keras.callbacks.ModelCheckpoint("model.keras", save_best_only=True)
    with pytest.warns(
        UserWarning, match=r"ModelCheckpoint \(save_best_only=True\).*end of epoch 4"
    ):
        checks.warn_of_unpruned_choices([keras.callbacks.TerminateOnNaN(), best], 4)


def test_averages_and_loops_with_early_removal_are_refused():
    checks.refuse_averages([keras.callbacks.TerminateOnNaN()])
    with pytest.raises(ValueError, match="SwapEMAWeights"):
        checks.refuse_averages([keras.callbacks.SwapEMAWeights()])
    checks.refuse_early_removal(resrep_keras.ResRep())
    with pytest.raises(ValueError, match="Set slim_every=None in a training loop"):
        checks.refuse_early_removal(resrep_keras.ResRep(slim_every=1))
