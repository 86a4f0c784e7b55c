"""What is kept of a sequence of tasks, and what is not taken for it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.workflow.kept_tasks import KeptTasks


def wrapped(units=4, strength=1.0):
    inputs = keras.Input((3,))
    x = layers.Dense(units, name="trunk")(inputs)
    heads = [layers.Dense(2, name=f"head_{task}")(x) for task in range(2)]
    model = resrep_keras.wrap(keras.Model(inputs, heads), resrep_keras.EWC(strength))
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_the_last_task_alone_is_kept(tmp_path):
    model = wrapped()
    kernel = model.get_layer("trunk").kernel
    kept = KeptTasks(tmp_path / "kept", model, {"seed": 1})
    assert kept.restore() is None
    kept.keep(0, "[]")
    values = np.full(kernel.shape, 0.5, "float32")
    kernel.assign(values)
    kept.keep(1, '{"second": 1}')
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["task-1"]
    other = wrapped()
    assert KeptTasks(tmp_path / "kept", other, {"seed": 1}).restore() == '{"second": 1}'
    found = ops.convert_to_numpy(other.get_layer("trunk").kernel)
    np.testing.assert_array_equal(found, values)


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = KeptTasks(None, wrapped(), {})
    kept.keep(0, "{}")
    assert kept.restore() is None and not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras's own, before its error
@pytest.mark.parametrize(
    ("model", "settings", "text"),
    [
        ({"units": 5}, {"seed": 1}, "does not fit model.*begin anew, or give another folder"),
        ({"strength": 2.0}, {"seed": 1}, r"holds a run with method=.*1\.0.*got method=.*2\.0"),
        ({}, {"seed": 2}, "holds a run with seed=1; got seed=2. Give the same to go on"),
    ],
)
def test_another_run_is_refused(model, settings, text, tmp_path):
    KeptTasks(tmp_path, wrapped(), {"seed": 1}).keep(0, "{}")
    with pytest.raises(ValueError, match=text):
        KeptTasks(tmp_path, wrapped(**model), settings).restore()
    assert (tmp_path / "task-0").is_dir()


def test_a_result_that_cannot_be_read_is_not_kept(tmp_path):
    kept = KeptTasks(tmp_path, wrapped(), {})
    kept.keep(0, "{}")
    with pytest.raises(ValueError):
        kept.keep(1, "no JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["task-0"]
