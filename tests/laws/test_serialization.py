"""Law 6: save, load and resume at any step equals no interruption."""

import json

import keras
import numpy as np
import pytest

import resrep_keras
from tests import helpers, zoo

pytestmark = pytest.mark.tensorflow_only


def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(32, 8, 8, 3)).astype("float32"), generator.integers(0, 3, 32)


def compiled(name="residual"):
    keras.utils.set_random_seed(0)
    model = resrep_keras.wrap(zoo.build(name))
    rate = keras.optimizers.schedules.CosineDecay(0.05, 24)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss)
    return model


def fit(model, epochs, initial_epoch=0, **kwargs):
    x, y = data()
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        **kwargs,
    )
    return model


def assert_equal(first, second):
    for a, b in zip(first.weights, second.weights):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=a.path)
    for a, b in zip(first.optimizer.variables, second.optimizer.variables):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=a.path)


@helpers.each_kind(zoo.SAMPLE)
def test_a_wrapped_model_survives_a_file(name, tmp_path):
    model = resrep_keras.wrap(zoo.build(name), resrep_keras.ResRep(0.1))
    helpers.scramble(model)
    model.save(tmp_path / "wrapped.keras")
    revived = keras.models.load_model(tmp_path / "wrapped.keras")
    assert revived.method == model.method
    assert json.dumps(revived.get_config()) == json.dumps(model.get_config())
    assert helpers.difference(model, revived) == 0


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_saved_and_resumed_equals_uninterrupted(stop, tmp_path):
    whole = fit(compiled(), 6)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch + 1 == stop

    part = fit(compiled(), 6, callbacks=[Stop()])
    part.save(tmp_path / "part.keras")
    revived = keras.models.load_model(tmp_path / "part.keras")
    assert_equal(part, revived)
    fit(revived, 6, initial_epoch=stop)
    assert_equal(whole, revived)
    resrep_keras.finalize(revived, strict=True)


def test_backup_and_restore_equals_uninterrupted(tmp_path):
    whole = fit(compiled(), 6)

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), 6, callbacks=[backup, Crash()])
    resumed = fit(compiled(), 6, callbacks=[keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    assert_equal(whole, resumed)
