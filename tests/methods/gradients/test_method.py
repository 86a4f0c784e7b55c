"""ActivationGradientPruning: what becomes of the gradients of weights, and training with it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras.methods.gradients.method import ActivationGradientPruning, pruners_of
from resrep_keras.methods.gradients.pruner import GradientPruner
from tests.gradient_models import (
    branches,
    data,
    fitted,
    make_loss,
    model_of,
    normalised,
    unnormalised,
)
from tests.helpers import difference
from tests.paths import ROOT

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


# --- gradients ----------------------------------------------------------------------------------


def gradients(model, draws=1):
    """``{path: [gradient of each draw]}`` of the trainable variables, on one batch."""
    import tensorflow as tf

    x, y = data()

    @tf.function
    def one():
        with tf.GradientTape() as recording:
            value = make_loss()(y, model(x, training=True))
        return recording.gradient(value, [v.value for v in model.trainable_variables])

    drawn = [[g.numpy() for g in one()] for _ in range(draws)]
    paths = [v.path for v in model.trainable_variables]
    return {path: np.stack(values) for path, values in zip(paths, zip(*drawn))}


def cosine(a, b):
    a, b = a.ravel().astype("float64"), b.ravel().astype("float64")
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("build", [normalised, unnormalised])
def test_the_mean_gradient_of_the_weights_stays(build):
    model = model_of(build)
    dense = gradients(model)
    cosines = {}
    for rounding, draws in (("stochastic", 500), ("deterministic", 1)):
        method = ActivationGradientPruning(0.9, 0, rounding=rounding, seed=0)
        drawn = gradients(resrep_keras.wrap(model, method), draws)
        for path in ("a/kernel", "b/kernel"):
            cosines[rounding, path] = cosine(drawn[path].mean(0), dense[path][0])
        if rounding == "stochastic":
            assert (drawn["a/kernel"][0] != dense["a/kernel"][0]).any()
    assert cosines["stochastic", "a/kernel"] > 0.999
    assert cosines["stochastic", "b/kernel"] > 0.999
    assert cosines["deterministic", "a/kernel"] < 0.99


@pytest.mark.tensorflow_only
def test_other_readers_of_a_tensor_hand_on_their_whole_gradient():
    """With rate 0.9 and deterministic rounding, only what `b` hands to `a` changes."""
    model = model_of(branches)
    dense = gradients(model)
    method = ActivationGradientPruning(0.9, 0, rounding="deterministic")
    pruned = gradients(resrep_keras.wrap(model, method))
    for path in ("b/kernel", "c/kernel", "dense/kernel"):
        np.testing.assert_allclose(pruned[path], dense[path], rtol=1e-5, atol=1e-7)
    assert cosine(pruned["a/kernel"], dense["a/kernel"]) < 0.9999
    # Without what `b` hands on, the gradient of `a` is that of `c` alone, in both models.
    kernel = model.get_layer("b").kernel
    kernel.assign(ops.zeros_like(kernel))
    alone = gradients(model)["a/kernel"]
    method = ActivationGradientPruning(0.9, 0, rounding="deterministic")
    pruned = gradients(resrep_keras.wrap(model, method))["a/kernel"]
    np.testing.assert_allclose(pruned, alone, rtol=1e-5, atol=1e-7)


# --- training -----------------------------------------------------------------------------------


@pytest.mark.tensorflow_only
def test_eager_graph_and_xla_come_out_the_same():
    found = {}
    modes = {"eager": {"run_eagerly": True}, "graph": {}, "xla": {"jit_compile": True}}
    for mode, settings in modes.items():
        wrapped, _ = fitted(ActivationGradientPruning(seed=1), epochs=2, **settings)
        found[mode] = {
            name: [ops.convert_to_numpy(v) for v in (p.pushes, p.measured, p.zeros, p.fifo)]
            for name, p in pruners_of(wrapped).items()
        }
    for mode in ("graph", "xla"):
        for name, (pushes, measured, zeros, fifo) in found["eager"].items():
            others = found[mode][name]
            assert pushes == others[0] == 16 and measured == others[1] == 16 - 5
            np.testing.assert_allclose(others[2], zeros, atol=0.02)
            np.testing.assert_allclose(others[3], fifo, rtol=0.1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lion"])
def test_trains_under_any_optimizer(optimizer):
    wrapped, history = fitted(ActivationGradientPruning(), optimizer=optimizer, epochs=6)
    assert history["loss"][-1] < history["loss"][0]
    assert ("gradient_zeros" in history) == ON_TENSORFLOW
    if ON_TENSORFLOW:
        assert 0.4 < history["gradient_zeros"][-1] < 1
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert difference(wrapped, slim) == 0
    assert not any(isinstance(layer, GradientPruner) for layer in slim.layers)


@pytest.mark.parametrize("threshold", ["normal", "lognormal"])
def test_trains_in_mixed_float16(threshold):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        method = ActivationGradientPruning(0.7, 2, threshold)
        wrapped, history = fitted(method, optimizer="adam", epochs=6)
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < history["loss"][0]
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in wrapped.variables)
    for pruner in pruners_of(wrapped).values():
        assert pruner.fifo.dtype == "float32"
        assert not ON_TENSORFLOW or 0.3 < float(ops.convert_to_numpy(pruner.zeros)) < 0.95


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_run_of_unknown_length():
    wrapped = resrep_keras.wrap(model_of(normalised), ActivationGradientPruning())
    wrapped.compile("sgd", make_loss())

    def batches():
        yield from (data(8, seed) for seed in range(3))

    wrapped.fit(batches(), verbose=0, shuffle=False)
    assert int(ops.convert_to_numpy(wrapped.optimizer.iterations)) >= 3


def test_a_run_goes_on_from_a_file(tmp_path):
    """Saved after the first of two epochs and loaded, it comes out like one of two."""
    method = ActivationGradientPruning({"a": 0.9, "*": 0.5}, 3, seed=5)
    whole, _ = fitted(method, epochs=2)
    half, _ = fitted(method, epochs=1)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert loaded.method == method and loaded.baseline == half.baseline
    loaded.fit(*data(), batch_size=8, epochs=1, verbose=0, shuffle=False)
    assert len(whole.variables) == len(loaded.variables) > 10
    for one, other in zip(whole.variables, loaded.variables):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


REPLICAS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import resrep_keras
from resrep_keras.methods.gradients.method import ActivationGradientPruning, pruners_of
from tests.gradient_models import data, make_loss, model_of, normalised
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = model_of(normalised)
model.compile("sgd", make_loss())
model = resrep_keras.wrap(model, ActivationGradientPruning(fifo_depth=2))
model.fit(*data(), batch_size=16, epochs=2, verbose=0)
for pruner in pruners_of(model).values():
    pushes, measured, zeros = map(
        keras.ops.convert_to_numpy, (pruner.pushes, pruner.measured, pruner.zeros)
    )
    assert pushes == 8 and measured == 6 and 0.4 < zeros < 1
"""


@pytest.mark.tensorflow_only
def test_replicas_share_what_they_remember():
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", REPLICAS], check=True, cwd=ROOT, env=env)
