"""The good file stands until the new one was read back, whenever the process is killed."""

import dataclasses
import pathlib
import subprocess
import sys

import keras
import pytest

import resrep_keras
from resrep_keras.common import scratch
from resrep_keras.deploy import formats
from tests import zoo

pytestmark = pytest.mark.tensorflow_only
SUFFIXES = [".keras", ".tflite", ""]


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_differs_when_it_is_read_back_is_not_kept(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"slim{suffix}"
    model = zoo.build("chain")
    resrep_keras.export(model, path)
    before = files_of(tmp_path)
    form = formats.FORMATS[suffix]

    def write(model, fresh, **settings):
        right = model.get_weights()
        model.set_weights([2 * weight for weight in right])
        form.write(model, fresh, **settings)
        model.set_weights(right)

    monkeypatch.setitem(formats.FORMATS, suffix, dataclasses.replace(form, write=write))
    with pytest.raises(ValueError, match=r"read back, differs from model '.*It is not kept"):
        resrep_keras.export(model, path)
    assert files_of(tmp_path) == before
    with pytest.raises(ValueError, match="is not kept"):
        resrep_keras.export(model, tmp_path / "new" / f"slim{suffix}")
    assert not list((tmp_path / "new").iterdir())


def test_a_layer_that_is_loaded_as_another_one_is_noticed(tmp_path):
    @keras.saving.register_keras_serializable("forgetful")
    class Forgetful(keras.layers.Layer):
        def __init__(self, factor=1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, inputs):
            return self.factor * inputs

        def get_config(self):
            return super().get_config()

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Forgetful(3.0)(inputs))
    with pytest.raises(ValueError, match=r"whose get_config\(\) forgets an argument"):
        resrep_keras.export(model, tmp_path / "slim.keras")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
import resrep_keras
from tests import zoo

replace = os.replace

def dying(source, target):
    if str(source) == sys.argv[1]:  # the old one has to leave its place: done, and killed
        replace(source, target)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = dying
resrep_keras.export(zoo.build("chain"), sys.argv[1])
"""


def test_a_saved_model_whose_export_is_killed_between_two_names_comes_back(tmp_path):
    path = tmp_path / "slim"
    resrep_keras.export(zoo.build("chain", seed=1), path)
    before = files_of(tmp_path)
    root = pathlib.Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", KILLED, path], cwd=root).returncode == -9
    assert not path.exists() and len(list(tmp_path.iterdir())) == 2
    # The next export of whatever kind puts it back, even one that fails.
    with pytest.raises(ZeroDivisionError):
        resrep_keras.common.files.write(path, lambda fresh: 1 / 0, folder=True, may_replace=bool)
    assert files_of(tmp_path) == before
    assert resrep_keras.export(zoo.build("chain"), path) <= 1e-5
    assert [entry.name for entry in tmp_path.iterdir()] == ["slim"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_a_killed_export_left_goes_with_the_next_one(tmp_path, suffix):
    left = tmp_path / f".slim{suffix}{scratch.ENDING}abcdefgh"
    (left / "new" / "half").mkdir(parents=True)
    (left / scratch.LOCK).touch()
    other = tmp_path / f".other{suffix}{scratch.ENDING}abcdefgh"
    other.mkdir()
    resrep_keras.export(zoo.build("chain"), tmp_path / f"slim{suffix}")
    assert {entry.name for entry in tmp_path.iterdir()} == {f"slim{suffix}", other.name}
