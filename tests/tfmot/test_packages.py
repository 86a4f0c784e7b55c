"""tf_keras and tfmot are imported on demand, and leave `tf.keras` what it is in the process."""

import importlib.util
import pathlib
import subprocess
import sys

import keras
import pytest

import resrep_keras
from resrep_keras.tfmot import packages

pytestmark = pytest.mark.tensorflow_only
ROOT = pathlib.Path(__file__).parents[2]
WAY = """
import os, sys
import keras, numpy as np, tensorflow as tf
import resrep_keras

ours = {"tf_keras", "tensorflow_model_optimization"}
assert not ours & set(sys.modules)
keras.utils.set_random_seed(0)
x, y = np.random.normal(size=(32, 4)), np.arange(32) % 2

def net():
    layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss=loss, metrics=["accuracy"])
    return model

first = net()
resrep_keras.tfmot.to_tf_keras(first)
aware = resrep_keras.tfmot.quantize_aware(first, x)
assert ours <= set(sys.modules)
history = aware.fit(x, y, epochs=3, verbose=0).history
assert history["loss"][2] < history["loss"][0]
assert "TF_USE_LEGACY_KERAS" not in os.environ
# Each of TensorFlow's names is looked up for the first time here.
assert tf.keras.layers.Dense is keras.layers.Dense
assert tf.compat.v2.keras.layers.Dense is keras.layers.Dense
assert tf.optimizers.SGD is keras.optimizers.SGD and tf.losses.get is keras.losses.get
for model in (first, net(), tf.keras.models.clone_model(first)):
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    assert isinstance(model, keras.Model)
import tensorflow_model_optimization as again
assert again is resrep_keras.tfmot.packages.model_optimization()
assert tf.keras.Model is keras.Model
"""


# Not `importorskip`: to import it here would make Keras 2 of `tf.keras` for all other tests.
@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_model_optimization") is None, reason="not installed"
)
def test_a_process_stays_one_of_keras_3():
    run = subprocess.run([sys.executable, "-c", WAY], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("name", ["to_tf_keras", "quantize_aware"])
def test_a_missing_package_is_told_with_the_extra(name, monkeypatch):
    def absent(module):
        raise ImportError(f"No module named '{module}'")

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    packages.model_optimization.cache_clear()
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r'pip install "resrep-keras\[tfmot\]"'):
        getattr(resrep_keras.tfmot, name)(model)
    packages.model_optimization.cache_clear()
