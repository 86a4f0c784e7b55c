"""The whole way on whatever backend runs the tests: TensorFlow, JAX or torch.

KERAS_BACKEND=jax python -m pytest tests/conditions/test_backends.py
KERAS_BACKEND=torch python -m pytest tests/conditions/test_backends.py
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import resrep_keras
from tests.conditions import two_devices
from tests.helpers import compactors, difference
from tests.paths import ROOT

NORMALIZATION = [None, {"momentum": 0.9}]


def mask_of(model):
    masks = [keras.ops.convert_to_numpy(layer.keep_mask) for layer in compactors(model)]
    return np.concatenate(masks).astype(bool)


@pytest.mark.parametrize("normalization", NORMALIZATION)
def test_wrap_fit_finalize_save_and_load(tmp_path, normalization):
    model = two_devices.fit(two_devices.make_model(normalization))
    assert not mask_of(model).all()

    model.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras")
    first, second = two_devices.state(model), two_devices.state(loaded)
    assert len(first) == len(second) > 20
    for one, other in zip(first.values(), second.values()):
        np.testing.assert_array_equal(one, other)

    slim = resrep_keras.finalize(loaded, strict=True)
    assert slim.certificate.max_relative < 1e-5
    assert difference(model, slim) < 1e-5
    assert slim.count_params() < two_devices.make_dense(normalization).count_params()
    assert resrep_keras.export(slim, tmp_path / "slim.keras") == 0
    table = resrep_keras.report(two_devices.make_dense(normalization), slim)
    assert f"on {keras.backend.backend()}" in str(table)


def test_channels_that_are_masked_get_no_gradient_and_reach_zero():
    model = two_devices.fit(two_devices.make_model())
    for layer in compactors(model):
        mask = keras.ops.convert_to_numpy(layer.keep_mask).astype(bool)
        np.testing.assert_array_equal(layer.column_norms()[~mask], 0)
        assert (layer.column_norms()[mask] > 0.1).all()


def test_a_run_goes_on_from_a_file(tmp_path):
    path = tmp_path / "wrapped.keras"
    whole = two_devices.make_model()
    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: whole.save(path) if epoch == 0 else None
    )
    two_devices.fit(whole, callbacks=[save])
    resumed = two_devices.fit(keras.models.load_model(path), initial_epoch=1)
    np.testing.assert_array_equal(mask_of(resumed), mask_of(whole))
    for one, other in zip(two_devices.state(whole).values(), two_devices.state(resumed).values()):
        np.testing.assert_allclose(np.float64(one), np.float64(other), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("slim", "A SavedModel needs the TensorFlow backend; this process runs on {}. Save"),
        ("slim.tflite", "TFLite needs the TensorFlow backend; this process runs on {}. Save"),
    ],
)
def test_formats_of_tensorflow_are_refused_in_words(tmp_path, name, text):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        pytest.skip("TensorFlow writes them")
    with pytest.raises(ValueError, match=text.format(backend)):
        resrep_keras.export(two_devices.make_dense(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


WITHOUT_TENSORFLOW = """
import sys

sys.modules["tensorflow"] = None  # it cannot be imported

import keras
import numpy as np

import resrep_keras
from tests.conditions import two_devices

model = two_devices.fit(two_devices.make_model())
slim = resrep_keras.finalize(model, strict=True)
resrep_keras.export(slim, "slim.keras")
x = np.random.default_rng(3).normal(size=(4, 8, 8, 1)).astype("float32")
np.savez("outputs.npz", x=x, y=keras.ops.convert_to_numpy(slim(x, training=False)))
"""


def test_a_process_without_tensorflow_prunes_what_any_backend_loads(tmp_path):
    """JAX, or torch where that runs the tests; its slim model then runs here."""
    backend = keras.backend.backend()
    settings = {
        "KERAS_BACKEND": "jax" if backend == "tensorflow" else backend,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW],
        cwd=tmp_path,
        env={**os.environ, **settings},
        check=True,
        timeout=300,
    )
    slim = keras.models.load_model(tmp_path / "slim.keras")
    with np.load(tmp_path / "outputs.npz") as arrays:
        outputs = keras.ops.convert_to_numpy(slim(arrays["x"], training=False))
        np.testing.assert_allclose(outputs, arrays["y"], rtol=1e-4, atol=1e-5)
    if backend == "tensorflow":
        assert resrep_keras.export(slim, tmp_path / "slim.tflite") < 1e-4
