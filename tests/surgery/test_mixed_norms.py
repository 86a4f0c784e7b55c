"""Batch normalisations that stay: their outputs, and the statistics that training meets."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.mixed_norms import MixedNorm, covariances, is_batch_norm
from tests import helpers, zoo


def norm(gamma, beta, mean, variance, **settings):
    layer = layers.BatchNormalization(epsilon=0.0, **settings)
    layer.build((None, len(mean)))
    given = [gamma] * layer.scale + [beta] * layer.center + [mean, variance]
    layer.set_weights([np.array(values, "float32") for values in given])
    return layer


def test_a_selection_leaves_each_channel_its_statistics():
    layer = norm([1, 2], [3, 4], [5, 6], [7, 8])
    mixed = MixedNorm(layer, np.eye(2), np.array([True, True]))
    np.testing.assert_array_equal(mixed.matrix, np.eye(2))
    np.testing.assert_allclose(mixed.weights()[1], [[1, 2], [3, 4], [5, 6], [7, 8]], rtol=1e-6)


def test_a_mixture_by_hand():
    """Outputs u and v of the norm, with scales 2 and 1, become u + 3 v and 4 v."""
    layer = norm([2, 1], [1, 10], [5, 6], [1, 1])
    mixed = MixedNorm(layer, np.array([[1.0, 0], [3, 4]]), np.array([True, True]))
    np.testing.assert_allclose(mixed.matrix, [[1, 0], [1 * 3 / 2, 4]])
    gamma, beta, mean, variance = mixed.weights()[1]
    np.testing.assert_allclose(beta, [1 + 3 * 10, 4 * 10])
    np.testing.assert_allclose(mean, [5 + 1.5 * 6, 4 * 6])
    np.testing.assert_allclose(variance, [1 + 1.5**2, 16])  # independent: squares add up
    np.testing.assert_allclose(gamma, [2 * np.sqrt(1 + 1.5**2), 1 * 4])


def test_channels_that_vary_together():
    """u and v alike: the variance of u + v is that of 2 u."""
    layer = norm([1, 1], [0, 0], [0, 0], [1, 1])
    columns = np.array([[1.0, 0], [1, 1]])
    mixed = MixedNorm(layer, columns, np.array([True, True]), np.ones((2, 2)))
    np.testing.assert_allclose(mixed.weights()[1][3], [4, 1])


def model(**settings):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm", **settings)(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(8, use_bias=False, name="dense")(x)
    x = layers.Activation("relu")(layers.BatchNormalization(name="second")(x))
    return zoo.randomise(keras.Model(inputs, layers.Dense(3, name="top")(x)))


def images(number=64):
    x = np.random.default_rng(0).normal(size=(number, 8, 8, 1))
    noise = np.random.default_rng(1).normal(size=(number, 8, 8, 3))
    return (x + 0.3 * noise).astype("float32")  # whose channels vary together


def mixed_and_masked(dense):
    """Wrapped, with compactors that mix and some dead channels."""
    wrapped = resrep_keras.wrap(dense, ResRep(0.3, compactor="full"))
    helpers.scramble(wrapped)
    for layer in wrapped.layers:
        if isinstance(layer, Compactor):
            kernel = ops.convert_to_numpy(layer.kernel).copy()
            kernel[..., :2] = 0
            layer.kernel.assign(kernel)
    return wrapped


@pytest.mark.parametrize("settings", [{}, {"scale": False}, {"center": False}])
def test_outputs_are_the_same(settings):
    wrapped = mixed_and_masked(model(**settings))
    folded = resrep_keras.finalize(wrapped)
    slim = resrep_keras.finalize(wrapped, keep_batch_norm=True)
    kept = [layer for layer in slim.layers if isinstance(layer, layers.BatchNormalization)]
    assert [layer.name for layer in kept] == ["norm", "second"]
    assert slim.certificate.max_relative < 1e-5
    assert helpers.difference(folded, slim) < 1e-5
    widths = [slim.get_layer(name).output.shape[-1] for name in ("conv", "dense")]
    assert widths == [folded.get_layer(name).output.shape[-1] for name in ("conv", "dense")]
    assert not slim.get_layer("dense").use_bias  # what was none before needs none


def test_training_meets_what_inference_does():
    """On data that tell how channels vary together, a step's outputs with the statistics of its
    batch are those of the wrapped model, and moving averages those that the step meets."""
    dense, x = model(), images(256)
    for layer in ("norm", "second"):
        dense.get_layer(layer).momentum = 0.0
    wrapped = mixed_and_masked(dense)
    before = ops.convert_to_numpy(wrapped(x, training=True))  # moving averages are those of x
    slim = resrep_keras.finalize(wrapped, True, x, keep_batch_norm=True)
    after = ops.convert_to_numpy(slim(x, training=True))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3 * abs(before).max())
    slim = resrep_keras.finalize(wrapped, True, x, keep_batch_norm=True)
    for name in ("norm", "second"):
        before = keras.Model(slim.input, slim.get_layer(name).input)(x)
        values = ops.convert_to_numpy(before).reshape(-1, before.shape[-1])
        layer = slim.get_layer(name)
        np.testing.assert_allclose(layer.moving_variance, values.var(axis=0), rtol=1e-2, atol=1e-5)
        np.testing.assert_allclose(layer.moving_mean, values.mean(axis=0), rtol=1e-2, atol=1e-3)


def test_what_training_goes_on_from():
    x = images(64)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    dense = model()
    dense.compile(
        keras.optimizers.SGD(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    dense.fit(x, y, epochs=10, verbose=0)
    wrapped = mixed_and_masked(dense)
    slim = resrep_keras.finalize(wrapped, True, keep_batch_norm=True)
    before = wrapped.evaluate(x, y, verbose=0)
    assert slim.evaluate(x, y, verbose=0) == pytest.approx(before, rel=1e-4)
    history = slim.fit(x, y, batch_size=64, epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_masked_channels_that_are_not_zero_stay():
    wrapped = mixed_and_masked(model())
    layer = helpers.compactors(wrapped)[0]
    layer.keep_mask.assign([True, True, True, True, True, False])
    with pytest.warns(UserWarning, match="1 masked channels are still above .* were kept"):
        slim = resrep_keras.finalize(wrapped, keep_batch_norm=True, data=images())
    assert slim.certificate.data_max_relative < 1e-5 and not slim.certificate.repaired


def test_covariances_of_what_is_read():
    dense, x = model(), images()
    graph = trace(dense)
    assert is_batch_norm(graph.calls_by_name["norm"])
    assert not is_batch_norm(graph.calls_by_name["conv"])
    assert covariances(graph, ["norm"], None) == {}
    values = ops.convert_to_numpy(keras.Model(dense.input, dense.get_layer("conv").output)(x))
    expected = np.cov(values.reshape(-1, 6), rowvar=False, bias=True)
    np.testing.assert_allclose(covariances(graph, ["norm"], x)["norm"], expected, atol=1e-5)
