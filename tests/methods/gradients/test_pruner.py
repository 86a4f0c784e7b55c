"""GradientPruner: what it makes of a gradient, and what it remembers."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.methods.gradients.pruner import GradientPruner
from resrep_keras.methods.gradients.thresholds import (
    normal_threshold,
)
from tests.methods.gradients.by_hand import normal, normal_zeros, pruned, threshold_of


def backward(layer, gradient):
    """What comes back through a layer in training."""
    x = ops.zeros_like(gradient)
    if keras.backend.backend() == "jax":
        import jax

        back = jax.vjp(lambda value: layer(value, training=True), x)[1](gradient)[0]
        return ops.convert_to_numpy(back)
    import tensorflow as tf

    with tf.GradientTape() as recording:
        recording.watch(x)
        y = layer(x, training=True)
    return ops.convert_to_numpy(recording.gradient(y, x, output_gradients=gradient))


def backward_often(layer, gradient, times):
    gradient = ops.convert_to_tensor(gradient)
    return [backward(layer, gradient) for _ in range(times)]


def read(variable):
    return ops.convert_to_numpy(variable)


# --- rounding -----------------------------------------------------------------------------------


def test_each_entry_keeps_its_mean_and_large_ones_their_value():
    gradient = normal(1000)
    threshold = threshold_of(normal_threshold, gradient, 0.9)
    draws = np.stack([pruned(gradient, threshold, seed) for seed in range(400)])
    large = np.abs(gradient) >= threshold
    assert large.any() and (draws[:, large] == gradient[large]).all()
    values = np.abs(draws[:, ~large])
    assert set(np.unique(values)) == {0, np.float32(threshold)}
    error = draws.mean(0) - gradient
    # The standard deviation of one entry is at most threshold / 2, that of the mean of 400 a
    # twentieth of that.
    assert np.abs(error).max() < 5 * threshold / 40
    assert abs(error.mean()) < 1e-2 / math.sqrt(10)


def test_deterministic_rounding_shifts_the_mean():
    """An entry below the threshold is lost each time."""
    gradient = np.abs(normal(10**5))
    threshold = threshold_of(normal_threshold, gradient, 0.9)
    lost = 1 - pruned(gradient, threshold, seed=None).mean() / gradient.mean()
    kept = 1 - pruned(gradient, threshold, seed=0).mean() / gradient.mean()
    assert lost > 0.5 and abs(kept) < 0.02


FLOAT64 = pytest.param("float64", marks=pytest.mark.tensorflow_only)  # JAX has it switched off


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", FLOAT64])
def test_other_dtypes_are_measured_in_float32(dtype):
    # In float16, the sum of these would overflow and their squares would vanish.
    gradient = ops.cast(normal(200_000, scale=1e-3), dtype)
    layer = GradientPruner(fifo_depth=0, seed=1)
    result = backward(layer, gradient)
    assert keras.backend.standardize_dtype(result.dtype) == keras.backend.standardize_dtype(
        gradient.dtype
    )
    assert (result.astype("float32") == 0).mean() == pytest.approx(normal_zeros(0.9), abs=1e-2)


# --- the layer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("training", [True, False, None])
def test_hands_on_what_it_reads(training, dtype):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(dtype)
    outputs = GradientPruner()(x, training=training)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype
    np.testing.assert_array_equal(ops.convert_to_numpy(outputs), x)


def test_rate_zero_prunes_nothing():
    gradient = normal(100)
    layer = GradientPruner(rate=0, fifo_depth=0)
    np.testing.assert_array_equal(backward_often(layer, gradient, 1)[0], gradient)


@pytest.mark.parametrize("threshold", ["normal", "lognormal"])
def test_a_gradient_without_anything_comes_back(threshold):
    gradient = np.zeros((2, 5), "float32")
    layer = GradientPruner(fifo_depth=0, threshold=threshold)
    np.testing.assert_array_equal(backward_often(layer, gradient, 1)[0], gradient)


def test_draws_anew_each_time_and_the_same_for_a_seed():
    gradient = normal(1000)
    first = backward_often(GradientPruner(fifo_depth=0, seed=7), gradient, 2)
    second = backward_often(GradientPruner(fifo_depth=0, seed=7), gradient, 2)
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(first, second)


@pytest.mark.tensorflow_only
def test_remembers_one_threshold_a_gradient_and_waits_until_it_has_enough():
    layer = GradientPruner(rate=0.9, fifo_depth=3, seed=0)
    gradients = [normal(10_000, seed, scale) for seed, scale in enumerate([1, 2, 3, 10, 0.1])]
    expected = [threshold_of(normal_threshold, g, 0.9) for g in gradients]
    for step, gradient in enumerate(gradients):
        result = backward_often(layer, gradient, 1)[0]
        assert int(read(layer.pushes)) == step + 1
        if step < 3:
            np.testing.assert_array_equal(result, gradient)
            assert int(read(layer.measured)) == 0
            continue
        threshold = np.mean(expected[step - 3 : step])
        rounded = result[result != gradient]
        np.testing.assert_allclose(np.unique(np.abs(rounded[rounded != 0])), threshold, rtol=1e-5)
        assert int(read(layer.measured)) == step - 2
    np.testing.assert_allclose(read(layer.fifo), expected[-3:], rtol=1e-5)


@pytest.mark.tensorflow_only
def test_the_fraction_of_zeros_is_a_running_mean():
    layer = GradientPruner(fifo_depth=0)
    found = [(result == 0).mean() for result in backward_often(layer, normal(50), 5)]
    assert float(read(layer.zeros)) == pytest.approx(np.mean(found), rel=1e-5)


@pytest.mark.tensorflow_only
def test_what_is_not_finite_is_handed_on_and_forgotten():
    """As under a loss scale: the optimizer must see the overflow, the next step nothing of it."""
    layer = GradientPruner(fifo_depth=2)
    gradient = normal(1000)
    backward_often(layer, gradient, 3)
    before = [read(v) for v in (layer.fifo, layer.pushes, layer.measured, layer.zeros)]
    for value in (np.inf, np.nan):
        broken = gradient.copy()
        broken[0] = value
        np.testing.assert_array_equal(backward_often(layer, broken, 1)[0], broken)
    after = [read(v) for v in (layer.fifo, layer.pushes, layer.measured, layer.zeros)]
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)
    assert (backward_often(layer, gradient, 1)[0] == 0).mean() > 0.4


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_is_handed_on_without_memory(value):
    gradient = normal(100)
    gradient[0] = value
    result = backward_often(GradientPruner(fifo_depth=0), gradient, 1)[0]
    np.testing.assert_array_equal(result, gradient)


def test_config_round_trip():
    layer = GradientPruner(0.5, 3, "lognormal", "deterministic", seed=4, name="pruner")
    revived = GradientPruner.from_config(layer.get_config())
    assert revived.get_config() == layer.get_config()
    assert vars(revived).keys() == vars(layer).keys()
    assert keras.saving.get_registered_name(GradientPruner) == "resrep_keras>GradientPruner"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (
            {"rate": 1.0},
            ValueError,
            "Expected rate to be a number of 0 or more and below 1; got 1.0",
        ),
        ({"rate": -0.1}, ValueError, "Expected rate to be .* got -0.1"),
        ({"rate": "0.9"}, TypeError, "Expected rate .* of type str"),
        ({"rate": math.nan}, ValueError, "Expected rate .* got nan"),
        ({"fifo_depth": -1}, ValueError, "Expected fifo_depth to be an int of 0 or more; got -1"),
        ({"fifo_depth": 2.5}, TypeError, "Expected fifo_depth to be an int"),
        ({"threshold": "laplace"}, ValueError, "to be 'normal' or 'lognormal'; got 'laplace'"),
        ({"rounding": "up"}, ValueError, "to be 'stochastic' or 'deterministic'; got 'up'"),
        ({"seed": -1}, ValueError, "Expected seed to be an int of 0 or more; got -1"),
    ],
)
def test_bad_settings(settings, error, text):
    with pytest.raises(error, match=text):
        GradientPruner(**settings)
