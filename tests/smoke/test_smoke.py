"""The whole way on whatever Keras is there: CI runs this on the oldest and the newest version."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from tests.paths import ROOT
from tests.smoke.own_training import Doubled

pytestmark = pytest.mark.tensorflow_only

LOAD = """
import sys
sys.modules["resrep_keras"] = None
import keras, numpy as np
x = np.load(sys.argv[1] + ".npz")
model = keras.models.load_model(sys.argv[1])
np.testing.assert_allclose(model.predict(x["x"], verbose=0), x["outputs"], 1e-5, 1e-5)
"""


def net():
    x = inputs = keras.Input((8, 8, 3))
    for filters in (8, 12):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        y = layers.Conv2D(2 * filters, 3, padding="same", activation="relu")(x)
        y = layers.Conv2D(filters, 3, padding="same")(y)
        x = layers.Add()([x, y])
        x = layers.MaxPooling2D()(x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def compiled(kind=keras.Model):
    model = kind(*net())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    return model


def data(size=64):
    generator = np.random.default_rng(0)
    return generator.normal(size=(size, 8, 8, 3)).astype("float32"), generator.integers(0, 3, size)


def fit(model, epochs=6):
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0).history


def saved(model, path):
    """Save a model, with what it answers to the data beside it."""
    model.save(path)
    x, y = data()
    np.savez(f"{path}.npz", x=x, y=y, outputs=model.predict(x, verbose=0))
    return str(path)


def in_another_process(*command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


METHODS = {
    "resrep": lambda: resrep_keras.ResRep(0.4),
    "slim_every": lambda: resrep_keras.ResRep(0.4, slim_every=1),
    "magnitude": lambda: resrep_keras.MagnitudePruning(0.4),
    "aofp": lambda: resrep_keras.AOFP(0.4, max_damage=10.0),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_whole_way(name, tmp_path):
    dense = compiled()
    model = resrep_keras.wrap(dense, METHODS[name]())
    np.testing.assert_allclose(model.predict(data()[0]), dense.predict(data()[0]), atol=1e-5)
    history = fit(model, epochs=12)
    assert history["macs_left"][-1] <= 0.6
    slim = resrep_keras.finalize(model, strict=True)
    assert resrep_keras.count_macs(slim) <= 0.6 * resrep_keras.count_macs(dense)
    if name == "resrep":
        path = saved(slim, tmp_path / "slim.keras")
        in_another_process("-c", LOAD, path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(keras.Model, "WrappedModel as Keras does True"), (Doubled, "WrappedModelDoubled True True")],
)
def test_a_wrapped_model_is_saved_and_loaded_and_trained_on(kind, said, tmp_path):
    model = resrep_keras.wrap(compiled(kind), resrep_keras.ResRep(0.4, total_steps=16))
    fit(model, epochs=1)
    path = saved(model, tmp_path / "wrapped.keras")
    assert type(keras.models.load_model(path)) is type(model)
    assert said in in_another_process("-m", "tests.smoke.own_training", path)


def test_granet_keeps_its_masks():
    model = resrep_keras.wrap(compiled(), resrep_keras.GraNet(final_sparsity=0.6))
    assert fit(model)["sparsity"][-1] >= 0.59
    slim = resrep_keras.finalize(model, strict=True)
    kernels = [w for w in slim.trainable_weights if w.path.endswith("kernel")]
    zeros = sum(int((keras.ops.convert_to_numpy(w) == 0).sum()) for w in kernels)
    assert zeros > 0


@pytest.mark.parametrize("suffix", [".keras", ".tflite", ""])
def test_export(suffix, tmp_path):
    slim = resrep_keras.MagnitudePruning(0.4).prune(keras.Model(*net()))
    assert resrep_keras.export(slim, tmp_path / f"slim{suffix}") <= 1e-5
