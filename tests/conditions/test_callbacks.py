"""Pruning runs beside the callbacks of Keras."""

import csv
import re

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import MagnitudePruning, PruningCallback, ResRep
from tests import helpers

pytestmark = pytest.mark.tensorflow_only
EPOCHS = 10
# 4 steps an epoch: selection ends after 0.25 * 40 steps, forgetting round(0.06 * 40) = 2 later.
# So the target is met after 12 steps, at the end of epoch 2.
PRUNED_FROM = 2


def data(size=64, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(size, 8)).astype("float32"), generator.integers(0, 3, size)


def dense():
    x = inputs = keras.Input((8,))
    for units in (12, 10):
        x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def wrapped(method=None, optimizer="sgd"):
    model = resrep_keras.wrap(dense(), method)
    model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    return model


def fit(model, callbacks=(), epochs=EPOCHS, **kwargs):
    x, y = data()
    return model.fit(
        x,
        y,
        batch_size=16,
        epochs=epochs,
        validation_data=data(16, seed=1),
        callbacks=list(callbacks),
        verbose=0,
        **kwargs,
    )


def meets_the_target(model):
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 0.5
    return slim


def problems(model):
    with pytest.warns(UserWarning) as caught:
        resrep_keras.finalize(model)
    return " ".join(str(warning.message) for warning in caught)


class Rising(keras.callbacks.Callback):
    """Makes each epoch worse than the one before, as pruning does."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = 1.0 + epoch


def test_learning_rate_scheduler():
    model = wrapped(optimizer=keras.optimizers.SGD(1.0))
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(
            float(model.optimizer.compactor_optimizer.learning_rate)
        )
    )
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.05 * 0.5**epoch)
    fit(model, [schedule, spy])
    assert float(model.optimizer.inner_optimizer.learning_rate) == np.float32(0.05 * 0.5**9)
    np.testing.assert_allclose(seen[::4], 0.05 * 0.5 ** np.arange(10), rtol=1e-6)
    meets_the_target(model)


def test_reduce_on_plateau():
    model = wrapped(optimizer=keras.optimizers.SGD(0.01))
    plateau = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=3)
    history = fit(model, [Rising(), plateau]).history
    np.testing.assert_allclose(history["learning_rate"][-1], 0.01 * 0.5**2, rtol=1e-6)
    np.testing.assert_allclose(float(model.optimizer.inner_optimizer.learning_rate), 0.01 * 0.5**3)
    meets_the_target(model)


def test_model_checkpoint_of_each_epoch(tmp_path):
    model = wrapped()
    fit(model, [keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")])
    assert len(list(tmp_path.iterdir())) == EPOCHS
    last = keras.models.load_model(tmp_path / f"{EPOCHS}.keras")
    assert helpers.difference(model, last) == 0
    meets_the_target(last)


def test_csv_logger(tmp_path):
    model = wrapped()
    history = fit(model, [keras.callbacks.CSVLogger(tmp_path / "log.csv")]).history
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [float(row["macs_left"]) for row in rows] == history["macs_left"]
    meets_the_target(model)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    model = wrapped()
    fit(model, [keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq=1)])
    assert {path.name for path in tmp_path.iterdir()} >= {"train", "validation"}
    meets_the_target(model)


def test_backup_and_restore_of_keras(tmp_path):
    model = wrapped()
    fit(model, [keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    meets_the_target(model)


def test_terminate_on_nan_and_lambda_callbacks():
    model = wrapped()
    fit(model, [keras.callbacks.TerminateOnNaN(), keras.callbacks.LambdaCallback()])
    meets_the_target(model)


@pytest.mark.parametrize("method", [ResRep(), MagnitudePruning()], ids=helpers.method_id)
def test_averages_of_weights_are_refused(method):
    model = wrapped(method)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"SwapEMAWeights swaps in running averages.*slim model"):
        fit(model, [keras.callbacks.SwapEMAWeights()])
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match=r"use_ema=True.*average the slim model"):
        wrapped(optimizer=keras.optimizers.SGD(use_ema=True))


def test_the_target_is_met_when_the_plan_says():
    model, met = wrapped(), []
    pruning = PruningCallback()

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            met.append(pruning.target_met())

    fit(model, [pruning, Spy()])
    assert met == [epoch >= PRUNED_FROM for epoch in range(EPOCHS)]


@pytest.mark.parametrize(
    ("settings", "danger"),
    [
        ({"restore_best_weights": True, "patience": 99}, "would restore the weights of"),
        ({"restore_best_weights": True, "start_from_epoch": 1}, "would restore the weights of"),
        ({"patience": 1}, "could stop at"),
        ({"patience": 2, "baseline": 0.1}, "could stop at"),
        ({"patience": 2}, None),
        ({"restore_best_weights": True, "start_from_epoch": PRUNED_FROM}, None),
        ({"start_from_epoch": PRUNED_FROM}, None),
    ],
    ids=str,
)
def test_early_stopping_before_the_target_is_met_is_warned_of(settings, danger):
    model = wrapped()
    stop = keras.callbacks.EarlyStopping(**settings)
    if danger is None:
        fit(model, [Rising(), stop])
        meets_the_target(model)
        return
    with pytest.warns(
        UserWarning,
        match=f"EarlyStopping {danger} an epoch before the target is met.*end of epoch 2, counted "
        r"from 0.*start_from_epoch=2\).*resrep_keras.PrunedCheckpoint",
    ):
        fit(model, [Rising(), stop])
    assert re.search("target is not met.*early stopping and the restoring of", problems(model))


def test_a_pruned_model_may_be_trained_on_with_early_stopping():
    model = wrapped()
    fit(model)
    fit(model, [Rising(), keras.callbacks.EarlyStopping(restore_best_weights=True)])
    meets_the_target(model)


def test_a_checkpoint_of_the_best_is_warned_of(tmp_path):
    model = wrapped()
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    with pytest.warns(
        UserWarning, match=r"ModelCheckpoint \(save_best_only=True\) would.*Use resrep_keras.Pruned"
    ):
        fit(model, [Rising(), best])
    assert "target is not met" in problems(keras.models.load_model(tmp_path / "best.keras"))
    pruned_at_once = wrapped(MagnitudePruning())
    fit(pruned_at_once, [best], epochs=1)


def test_pruned_checkpoint_keeps_the_best_of_the_pruned(tmp_path):
    model, seen = wrapped(), []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.get_weights())

    best = resrep_keras.PrunedCheckpoint(tmp_path / "models" / "best.keras")
    fit(model, [Rising(), best, Spy()])
    assert best.best == 1.0 + PRUNED_FROM
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["best.keras"]
    loaded = keras.models.load_model(tmp_path / "models" / "best.keras")
    for kept, then in zip(loaded.get_weights(), seen[PRUNED_FROM]):
        np.testing.assert_array_equal(kept, then)
    meets_the_target(loaded)


def test_pruned_checkpoint_fills_in_names(tmp_path):
    best = resrep_keras.PrunedCheckpoint(
        tmp_path / "{epoch:02d}-{macs_left:.1f}.keras", monitor="number", mode="max"
    )

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["number"] = epoch

    fit(wrapped(), [PruningCallback(), Count(), best])
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [f"{epoch + 1:02d}-0.5.keras" for epoch in range(PRUNED_FROM, EPOCHS)]


def test_pruned_checkpoint_says_that_there_was_nothing_to_keep(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    best = resrep_keras.PrunedCheckpoint(tmp_path / "best.keras")
    with pytest.warns(UserWarning, match=r"met in no epoch.*best.keras' is not written\. Train to"):
        fit(wrapped(), [Stop(), best])
    assert not list(tmp_path.iterdir())


def test_pruned_checkpoint_answers_bad_input_in_words(tmp_path):
    with pytest.raises(ValueError, match=r"filepath that ends in \.keras; got '.*best\.h5'"):
        resrep_keras.PrunedCheckpoint(tmp_path / "best.h5")
    plain = dense()
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"holds no pruning method.*resrep_keras.wrap"):
        fit(plain, [resrep_keras.PrunedCheckpoint(tmp_path / "best.keras")])


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_where_the_length_of_an_epoch_is_not_known_the_end_of_the_run_counts():
    import tensorflow as tf

    x, y = data(16)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    stream = batches.filter(lambda x, y: True)  # TensorFlow no longer knows how many
    model = wrapped(ResRep(total_steps=24))
    stop = keras.callbacks.EarlyStopping("loss", patience=99, restore_best_weights=True)
    with pytest.warns(UserWarning, match=r"EarlyStopping would restore.*start_from_epoch=5\)"):
        model.fit(stream, epochs=6, shuffle=False, verbose=0, callbacks=[stop])


def test_averages_leave_channels_removed_where_pruning_comes_first():
    """One-shot pruning is done before the first average is taken."""
    optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
    model = wrapped(MagnitudePruning(), optimizer)
    fit(model, epochs=3)
    meets_the_target(model)
