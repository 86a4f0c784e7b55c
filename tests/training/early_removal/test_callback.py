"""`fit` with `slim_every`: when channels leave, and what the run ends with."""

import csv

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.training.early_removal.removal import remove_early, worthwhile
from tests import helpers
from tests.training.early_removal.models import compiled, data, train


@pytest.mark.parametrize("compactor", ["full", "diagonal"])
def test_fit_ends_at_the_same_target(compactor, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "resrep_keras.training.early_removal.removal.WORTH", 0.1
    )  # so that channels go several times
    model = compiled("chain", metrics=["accuracy"], compactor=compactor)
    model.note = "mine"
    dense_macs = model.baseline.dense["macs"]
    widths, x, y = [], *data()

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert self.model is model
            widths.append(model.count_params())

    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=10,
        verbose=0,
        validation_data=(x[:32], y[:32]),
        callbacks=[
            Watch(),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ],
    )
    differences = model.baseline.removal.differences
    assert max(differences) <= 1e-5 and len(differences) > 1
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0]
    assert model.note == "mine" and model.history is history
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    names = {"accuracy", "loss", "val_accuracy", "val_loss", "macs_left", "learning_rate"}
    assert names <= history.history.keys() and names <= rows[0].keys() and len(rows) == 10
    assert all(len(values) == 10 for values in history.history.values())
    rates = 0.03 * 0.9 ** np.arange(1, 11)
    np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-5)

    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_dense == dense_macs
    assert resrep_keras.count_macs(slim) <= 0.6 * dense_macs
    assert history.history["macs_left"][-1] == slim.certificate.macs_left
    assert history.history["macs_left"] == sorted(history.history["macs_left"], reverse=True)
    without = compiled("chain", metrics=["accuracy"], compactor=compactor, slim_every=None)
    train(without, 10)
    assert resrep_keras.finalize(without).certificate.macs_left <= 0.6
    assert resrep_keras.finalize(without).certificate.macs_left == pytest.approx(
        slim.certificate.macs_left, abs=0.1
    )


@pytest.mark.tensorflow_only
def test_the_best_pruned_model_is_kept_after_removals(tmp_path):
    model = compiled()
    best = resrep_keras.PrunedCheckpoint(tmp_path / "best.keras", monitor="loss")
    train(model, 10, callbacks=[best])
    revived = keras.models.load_model(tmp_path / "best.keras")
    slim = resrep_keras.finalize(revived, strict=True)
    assert slim.certificate.macs_left <= 0.6


def test_removal_waits_for_its_epoch_and_for_enough_to_save():
    model = compiled(slim_every=3)
    sizes = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: sizes.append(model.count_params())
    )
    train(model, 9, callbacks=[watch])
    changes = [epoch for epoch in range(1, 9) if sizes[epoch] != sizes[epoch - 1]]
    assert changes and {epoch % 3 for epoch in changes} == {2}

    model = compiled("residual", compactor="diagonal")
    model.optimizer.build(model.trainable_variables)
    channel_state = ChannelState(model)
    kept = np.ones(channel_state.graph.num_channels, bool)
    helpers.kill(model, kept, channel_state)
    assert worthwhile(channel_state, model.method, selecting=True) is None
    dead, last = worthwhile(channel_state, model.method, selecting=False)
    assert not dead.any() and last  # the compactors are folded
    assert remove_early(model, channel_state, dead, last)[1]


def test_a_generator_leaves_the_channels_to_finalize():
    model = compiled()
    x, y = data()
    batches = ((x[:16], y[:16]) for _ in range(60))
    with pytest.warns(UserWarning, match="which a generator gives once"):
        model.fit(batches, epochs=10, steps_per_epoch=6, shuffle=False, verbose=0)
    assert not model.baseline.removal
    assert resrep_keras.finalize(model, strict=True).certificate.macs_left <= 0.6


def test_removal_that_would_change_outputs_is_left_out(monkeypatch):
    model = compiled()
    monkeypatch.setattr("resrep_keras.training.early_removal.removal.TOLERANCE", -1.0)
    with pytest.warns(UserWarning, match="were not removed in training: outputs would differ"):
        train(model, 6)
    assert not model.baseline.removal
    resrep_keras.finalize(model, strict=True)
