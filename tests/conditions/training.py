"""What the tests of conditions share: a small run, and what must hold after it."""

import keras
import numpy as np
from keras import ops

import resrep_keras
from tests import helpers, zoo


def data(size=64):
    generator = np.random.default_rng(0)
    return generator.normal(size=(size, 8, 8, 3)).astype("float32"), generator.integers(0, 3, size)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def wrapped(optimizer="sgd", method=None, name="residual", **kwargs):
    model = resrep_keras.wrap(zoo.build(name), method)
    model.compile(optimizer, loss(), **kwargs)
    return model


def fit(model, epochs=5, **kwargs):
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, **{"shuffle": False, **kwargs})


def masks(model):
    return [ops.convert_to_numpy(layer.keep_mask) for layer in helpers.compactors(model)]


def kernels(model):
    return [ops.convert_to_numpy(layer.kernel) for layer in helpers.compactors(model)]


def check_target_met(model):
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 0.5
    for layer in helpers.compactors(model):
        mask = ops.convert_to_numpy(layer.keep_mask)
        np.testing.assert_array_equal(layer.column_norms()[~mask], 0)
        assert np.isfinite(ops.convert_to_numpy(layer.kernel)).all()
    return slim


def run(epochs=5, method=None, **kwargs):
    keras.utils.set_random_seed(0)
    model = wrapped(keras.optimizers.SGD(0.01, momentum=0.9), method, **kwargs)
    fit(model, epochs)
    return model


def assert_same_training(first, second, rtol=1e-4):
    for ours, theirs in zip(masks(first), masks(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(kernels(first), kernels(second), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-4)
