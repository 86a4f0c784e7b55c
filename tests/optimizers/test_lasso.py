"""LassoOptimizer and GroupNormOptimizer: their pulls, against arithmetic by hand."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.group_lasso import GroupLasso, members
from resrep_keras.methods.channels.network_slimming import NetworkSlimming, scales_of
from resrep_keras.optimizers.lasso import GroupNormOptimizer, LassoOptimizer
from tests.conditions.training import data, fit, wrapped
from tests.sampling import sample
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


@pytest.mark.parametrize("scale", sample(SCALES))
def test_network_slimming_adds_the_sign_of_each_scale(scale):
    def pulls(model, before):
        scales = scales_of(ChannelState(model))
        return {gamma.path: 0.02 * np.sign(before[gamma.path]) for gamma, _ in scales}

    assert_pulled(NetworkSlimming, scale, pulls)


@pytest.mark.parametrize("scale", sample(SCALES, first=1))
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


@each_scale
def test_growth_pulls_all_that_goes_with_a_channel(scale):
    """What makes it, scales it and reads it; the smallest of a layer 2 ** 3 times as hard."""

    def pulls(model, before):
        state = ChannelState(model)
        parts = [(v.path, axis, ids) for v, axis, ids in members(state)]
        kinds = [path.split("/")[-1] for path, _, _ in parts]
        assert kinds.count("gamma") == 2 and kinds.count("kernel") == 4
        norms = np.zeros(state.graph.num_channels)
        for group in state.groups:
            own = [part for part in parts if set(part[2]) == set(group.channels)]
            assert len(own) == 3
            for place, channel in enumerate(group.channels):
                slices = [np.take(before[path], place, axis) for path, axis, _ in own]
                norms[channel] = np.sqrt(sum((each**2).sum() for each in slices) / 3)
        found = {}
        for path, axis, ids in parts:
            n = norms[ids]
            gamma = 2 ** (3 * (n.max() - n) / (n.max() - n.min()))
            shape = [-1 if a == axis else 1 for a in range(before[path].ndim)]
            found[path] = 0.02 * before[path] * gamma.reshape(shape)
        return found

    assert_pulled(functools.partial(GroupLasso, growth=3), scale, pulls)


def one_update(growth, sizes, *members):
    """Variables after a step of rate 1 and strength 0.1 without any gradient of a loss."""
    variables = [keras.Variable(np.array(values, "float32")) for values, _, _ in members]
    penalised = [(place, axis, ids) for place, (_, axis, ids) in enumerate(members)]
    optimizer = GroupNormOptimizer(keras.optimizers.SGD(1.0), 0.1, penalised, growth, sizes)
    optimizer = GroupNormOptimizer.from_config(optimizer.get_config())
    optimizer.apply([ops.zeros(v.shape) for v in variables], variables)
    return [ops.convert_to_numpy(v) for v in variables]


def test_growth_by_hand():
    """Of squared norms 9 + 16, 1 + 0 and 0 + 9 in two parts come sizes 5, 1 and 3 over root 2:
    shares 0, 1 and 1 / 2, factors 1, 4 and 2, so that 0.1, 0.4 and 0.2 of the weights go."""
    made = [[3.0, 1, 0]], 1, [0, 1, 2]
    read = [[4.0], [0], [0], [3], [7]], 0, [0, 0, 1, 2, -1]  # two rows of the first, one of none
    made, read = one_update(2.0, [3], made, read)
    np.testing.assert_allclose(made, [[2.7, 0.6, 0]], rtol=1e-6)
    np.testing.assert_allclose(read, [[3.6], [0], [0], [2.4], [7]], rtol=1e-6)


def test_each_layer_has_a_largest_channel_of_its_own():
    """Sizes 2, 1 and 20, 10: factors 1 and 2 in both. Where all are equal, all have 1."""
    (found,) = one_update(1.0, [2, 2, 2], ([2.0, 1, 20, 10, 5, -5], 0, range(6)))
    np.testing.assert_allclose(found, [1.8, 0.8, 18, 8, 4.5, -4.5], rtol=1e-6)
    (found,) = one_update(4.0, [2], ([0.0, 0], 0, [0, 1]))
    np.testing.assert_array_equal(found, [0, 0])


def test_a_strength_that_is_not_planned_yet_pulls_at_nothing():
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = LassoOptimizer(keras.optimizers.SGD(1.0), None, [(0, 0)])
    optimizer = LassoOptimizer.from_config(optimizer.get_config())
    for strength, value in ((None, 1.0), (0.25, 0.75), (0.0, 0.75)):
        if strength is not None:
            optimizer.strength.assign(strength)
        optimizer.apply([ops.zeros((3,))], [variable])
        assert optimizer.planned() == (strength is not None)
        np.testing.assert_allclose(ops.convert_to_numpy(variable), value)


def test_a_channel_of_zeros_is_not_pulled():
    model = wrapped(method=GroupLasso(0.3, strength=0.1))
    kernel = model.method.penalised(ChannelState(model))[0][0]
    kernel.assign(np.zeros(kernel.shape))
    fit(model, 1)
    assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.variables)


@pytest.mark.parametrize(
    "kind", [NetworkSlimming, GroupLasso, functools.partial(GroupLasso, growth=4)]
)
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
