"""A run that is killed and started again ends like one that is not, to the bit."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.training.counters import counters
from tests.conditions import interrupted_run
from tests.paths import ROOT

pytestmark = pytest.mark.tensorflow_only
SCRIPT = pathlib.Path(interrupted_run.__file__)


def start(folder, *place, pause=0.0):
    environment = {**os.environ, "INTERRUPTED_RUN_PAUSE": str(pause)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    folder.mkdir(exist_ok=True)
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), *place], env=environment, stderr=log
        )


def run_to_the_end(folder):
    process = start(folder)
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()
    return read(folder)


def read(folder):
    with np.load(folder / "result.npz") as values:
        return dict(values)


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    values = run_to_the_end(tmp_path_factory.mktemp("uninterrupted"))
    masks = [values[name] for name in values if name.startswith("mask.")]
    assert 0 < sum(mask.sum() for mask in masks) < sum(mask.size for mask in masks)
    return values


@pytest.mark.parametrize(
    "places",
    [
        ["in_the_middle_of_a_selection", "in_the_middle_of_a_write"],
        pytest.param(["between_two_backups"], marks=pytest.mark.slow),
        pytest.param(["in_the_middle_of_a_checkpoint"], marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_killed_at_the_worst_moments(places, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for place in places:
        process = start(folder, place)
        assert process.wait(timeout=300) == -signal.SIGKILL, (folder / "log").read_text()
        assert (folder / place).exists()
    assert_equal(run_to_the_end(folder), uninterrupted)
    assert [path.name for path in (folder / "backup").iterdir()] == ["epoch-24"]


@pytest.mark.slow
def test_killed_at_twenty_random_moments(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    generator = np.random.default_rng(0)
    batches, reached = folder / "batches", []
    for _ in range(20):
        batches.unlink(missing_ok=True)
        process = start(folder, pause=0.03)
        # After up to two epochs of this process, anywhere from one batch to the next.
        size, delay = generator.integers(1, 2 * interrupted_run.STEPS), generator.uniform(0, 0.1)
        while process.poll() is None and not (batches.exists() and batches.stat().st_size >= size):
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        assert process.wait() == -signal.SIGKILL, (folder / "log").read_text()
        reached.append(resrep_keras.Backup(folder / "backup").epoch)
    assert not (folder / "result.npz").exists()
    assert reached == sorted(reached) and len(set(reached)) > 5, reached
    assert_equal(run_to_the_end(folder), uninterrupted)


def build(wrap=True, units=(12, 10), rate=0.3):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8,))
    for width in units:
        x = layers.Dropout(rate)(layers.Dense(width, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    return resrep_keras.wrap(model) if wrap else model


def compiled(wrap=True, units=(12, 10)):
    model = build(wrap, units)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    return model


def fit(model, callbacks=(), **kwargs):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(32, 8)).astype("float32"), generator.integers(0, 3, 32)
    model.fit(
        x,
        y,
        **{"batch_size": 8, "epochs": 8, "shuffle": False, "verbose": 0, **kwargs},
        callbacks=list(callbacks),
    )
    return model


def assert_same_state(first, second):
    for variables in (lambda model: model.variables, lambda model: model.optimizer.variables):
        for a, b in zip(variables(first), variables(second), strict=True):
            np.testing.assert_array_equal(
                *(keras.ops.convert_to_numpy(v) for v in (a, b)), err_msg=a.path
            )


class Crash(keras.callbacks.Callback):
    def __init__(self, at):
        super().__init__()
        self.at = at

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            raise KeyboardInterrupt


class Worse(keras.callbacks.Callback):
    """Logs a loss that falls until epoch 3."""

    def on_epoch_end(self, epoch, logs=None):
        logs["wrong"] = abs(epoch - 3)


def interrupted(folder, wrap=True, callbacks=tuple, at=5):
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(wrap), [*callbacks(), resrep_keras.Backup(folder), Crash(at)])
    return resrep_keras.Backup(folder, delete_checkpoint=False)


@pytest.mark.parametrize("wrap", [True, False], ids=["wrapped", "plain"])
def test_backup_resumes_any_model(wrap, tmp_path):
    backup = interrupted(tmp_path, wrap)
    assert backup.epoch == 5
    resumed = fit(compiled(wrap), [backup], initial_epoch=0 if wrap else backup.epoch)
    whole = fit(compiled(wrap))
    assert_same_state(resumed, whole)
    # Killed after its last backup, it has nothing left to do but to bring the weights back.
    assert backup.epoch == 8
    assert_same_state(fit(compiled(wrap), [backup], initial_epoch=8), whole)


def test_a_backup_is_deleted_at_the_end(tmp_path):
    fit(compiled(), [resrep_keras.Backup(tmp_path / "backup")], epochs=2)
    assert not list(tmp_path.iterdir())


def test_an_epoch_that_is_stopped_is_not_backed_up(tmp_path):
    def stop(batch, logs):
        model.stop_training = len(model.history.epoch) == 3 and batch == 1

    model = compiled()
    backup = resrep_keras.Backup(tmp_path, delete_checkpoint=False)
    fit(model, [keras.callbacks.LambdaCallback(on_train_batch_end=stop), backup])
    assert backup.epoch == 3
    assert_same_state(fit(compiled(), [backup]), fit(compiled()))


COUNTING = {
    "early_stopping": lambda: [
        Worse(),
        keras.callbacks.EarlyStopping(
            "wrong", patience=3, restore_best_weights=True, start_from_epoch=3, mode="min"
        ),
    ],
    "plateau": lambda: [
        Worse(),
        keras.callbacks.ReduceLROnPlateau("wrong", patience=2, cooldown=1, mode="min"),
    ],
}


@pytest.mark.parametrize("name", COUNTING)
def test_callbacks_that_count_go_on_counting(name, tmp_path):
    make = COUNTING[name]
    backup = interrupted(tmp_path, callbacks=make)
    resumed = fit(compiled(), [*make(), backup])
    whole = fit(compiled(), make())
    assert_same_state(resumed, whole)
    assert resumed.history.epoch[-1] == whole.history.epoch[-1]


def test_a_callback_of_ones_own_may_count(tmp_path):
    class Seen(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    counters.register(Seen, lambda callback: ("epochs",))
    backup = interrupted(tmp_path, callbacks=lambda: [Seen()])
    seen = Seen()
    fit(compiled(), [seen, backup])
    assert seen.epochs == 8


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")  # and then Keras raises
def test_a_backup_is_refused_where_it_does_not_belong(tmp_path):
    backup = interrupted(tmp_path, wrap=False)
    with pytest.raises(
        ValueError, match=r"goes on with epoch 5, but fit begins with epoch 0\. Call"
    ):
        fit(compiled(wrap=False), [backup])
    other = compiled(wrap=False, units=(11, 10))
    with pytest.raises(ValueError, match=r"epoch-5' does not fit model .*Delete it to begin anew"):
        fit(other, [backup])


@pytest.mark.parametrize("ending", ["model.weights.h5", "model.keras"])
def test_weights_bring_the_optimizer_with_them(ending, tmp_path):
    """Also into an optimizer that is compiled, but not built."""
    part, resumed = fit(compiled(), epochs=3), compiled()
    (part.save_weights if "weights" in ending else part.save)(tmp_path / ending)
    assert not resumed.optimizer.built
    resumed.load_weights(tmp_path / ending)
    assert_same_state(part, resumed)
    # The plan of the first run goes on: 3 epochs, then 5 more.
    assert_same_state(fit(part, initial_epoch=3, epochs=8), fit(resumed, initial_epoch=3, epochs=8))


def test_a_saved_model_goes_on_with_its_dropout(tmp_path):
    backup = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    whole = fit(compiled(), [backup])
    resumed = fit(keras.models.load_model(tmp_path / "4.keras"), initial_epoch=4)
    assert_same_state(whole, resumed)


def test_weights_of_a_model_without_dropout_are_welcome(tmp_path):
    without, model = build(rate=0), build()
    without.save_weights(tmp_path / "model.weights.h5")
    model.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(without.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
