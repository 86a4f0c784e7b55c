"""LassoOptimizer: its pulls, against arithmetic by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.group_lasso import GroupLasso
from resrep_keras.methods.channels.network_slimming import NetworkSlimming
from resrep_keras.optimizers.lasso import LassoOptimizer
from tests.conditions.training import data, fit, wrapped
from tests.updates import SCALES

each_scale = pytest.mark.parametrize("scale", SCALES)


def after_one_update(method, scale):
    """The trainable variables after one update of a net whose scales are of both signs and zero."""
    optimizer, steps = SCALES[scale]
    rate = 0.1
    model = wrapped(optimizer(rate), method)
    gammas = [v for v in model.trainable_variables if v.path.endswith("gamma")]
    for gamma in gammas:
        gamma.assign(np.linspace(-0.5, 0.5, gamma.shape[0] // 2 * 2 + 1)[: gamma.shape[0]])
    before = {v.path: np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables}
    x, y = data(16)
    for _ in range(steps):
        model.train_on_batch(x, y)
    after = {v.path: np.array(ops.convert_to_numpy(v)) for v in model.trainable_variables}
    return model, rate, before, after


def assert_pulled(kind, scale, pulls):
    """A step with a penalty is one without it, and `rate * pulls` on top."""
    _, _, _, without = after_one_update(kind(0.3, strength=0.0), scale)
    model, rate, before, after = after_one_update(kind(0.3, strength=0.02), scale)
    expected = {path: -rate * pull for path, pull in pulls(model, before).items()}
    assert expected and all(np.abs(pull).max() > 0 for pull in expected.values())
    names = [[v.path for v in model.trainable_variables], list(without)]
    for path, other in zip(*names, strict=True):  # names are counted on from model to model
        change = after[path] - without[other]
        np.testing.assert_allclose(change, expected.get(path, 0.0), atol=2e-6, err_msg=path)


@each_scale
def test_network_slimming_adds_the_sign_of_each_scale(scale):
    def pulls(model, before):
        scales = model.method.scales(ChannelState(model))
        return {gamma.path: 0.02 * np.sign(before[gamma.path]) for gamma, _ in scales}

    assert_pulled(NetworkSlimming, scale, pulls)


@each_scale
def test_group_lasso_pulls_each_channel_of_the_kernels(scale):
    def pulls(model, before):
        found = {}
        for variable, axis in model.method.penalised(ChannelState(model)):
            kernel = before[variable.path]
            assert axis == 3
            sizes = np.sqrt((kernel**2).mean(axis=(0, 1, 2)))
            found[variable.path] = 0.02 * kernel / sizes
        return found

    assert_pulled(GroupLasso, scale, pulls)


def test_a_channel_of_zeros_is_not_pulled():
    model = wrapped(method=GroupLasso(0.3, strength=0.1))
    kernel = model.method.penalised(ChannelState(model))[0][0]
    kernel.assign(np.zeros(kernel.shape))
    fit(model, 1)
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.variables)


@pytest.mark.parametrize("kind", [NetworkSlimming, GroupLasso])
def test_the_penalty_ends_with_the_selection(kind):
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            strength = ops.convert_to_numpy(self.model.optimizer.strength)
            seen.append((float(strength), logs["macs_left"] < 1))

    model = wrapped(method=kind(0.3, at=0.5, strength=0.25))
    fit(model, 4, callbacks=[Spy()])
    assert seen == [(0.25, False), (0.0, True), (0.0, True), (0.0, True)]


def test_axes_of_kernels_are_those_of_the_channels():
    """A transposed convolution has its channels before the last axis; frozen layers have none."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2DTranspose(5, 3, name="transposed")(inputs)
    x = layers.SeparableConv2D(7, 3, name="separable")(layers.ReLU()(x))
    x = layers.Conv2D(9, 3, name="frozen")(layers.ReLU()(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    dense = keras.Model(inputs, layers.Dense(2)(x))
    dense.get_layer("frozen").trainable = False
    model = resrep_keras.wrap(dense, GroupLasso(0.3))
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    found = {
        model.trainable_variables[position].path.split("/")[0]: axis
        for position, axis in model.optimizer.penalised
    }
    assert found == {"transposed": 2, "separable": 3}


@pytest.mark.parametrize(
    ("penalised", "text"),
    [
        ([(1, 0)], "with axis 0 in number 1; got 1 variables"),
        ([(0, 3)], "with axis 3 in number 0; got 1 variables, that one of rank 1"),
    ],
)
def test_variables_of_another_model_are_refused(penalised, text):
    with pytest.raises(ValueError, match=text):
        LassoOptimizer("sgd", 0.1, penalised).build([keras.Variable(np.ones(2))])
