"""The methods that choose all channels at one moment: their scores, their penalties, their runs."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState, PrunableChannels
from resrep_keras.methods.channels.fpgm import FPGM
from resrep_keras.methods.channels.group_lasso import GroupLasso, makers, members
from resrep_keras.methods.channels.magnitude import MagnitudePruning
from resrep_keras.methods.channels.network_slimming import NetworkSlimming, scales_of
from resrep_keras.methods.channels.random_pruning import RandomPruning
from resrep_keras.methods.channels.scores import kernel_distance, mean_over
from resrep_keras.methods.channels.taylor import TaylorPruning
from tests import helpers, zoo
from tests.conditions.training import data, fit, loss, wrapped
from tests.sampling import sample, sample_pairs

GROWTH = functools.partial(GroupLasso, growth=4)
METHODS = [
    MagnitudePruning,
    RandomPruning,
    FPGM,
    TaylorPruning,
    NetworkSlimming,
    GroupLasso,
    GROWTH,
]
LEARNING = [TaylorPruning, NetworkSlimming, GroupLasso]  # those that measure in training


def momentum(**kwargs):
    return keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=1e-2, **kwargs)


OPTIMIZERS = [momentum, keras.optimizers.Adam]


# --- scores ---------------------------------------------------------------------------------------


def test_distances_by_hand():
    """Three channels of a 2x2 kernel: (0,0,0,0), (3,4,0,0), (0,0,0,12); distances 5, 12 and 13."""
    kernel = np.array([[0, 3, 0], [0, 4, 0], [0, 0, 0], [0, 0, 12.0]]).reshape(2, 2, 1, 3)
    mean = (17 + 18 + 25) / 3
    np.testing.assert_allclose(kernel_distance(kernel), [17 / mean, 18 / mean, 25 / mean])
    np.testing.assert_array_equal(kernel_distance(np.ones((3, 3, 1, 4))), np.zeros(4))


def conv_net(kernel):
    """6x6 inputs, a convolution of 4 channels, 2 outputs: half of the MACs are two channels."""
    inputs = keras.Input((6, 6, 1))
    conv = layers.Conv2D(4, 3, name="conv")
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(conv(inputs))))
    conv.set_weights([kernel, np.zeros(4)])
    return model


def test_fpgm_removes_the_replaceable_and_magnitude_the_small():
    """Numbers 1, 9, 10 and 11: those in the middle are near the others, 1 and 9 are small."""
    kernel = np.ones((3, 3, 1, 4)) * np.array([1.0, 9.0, 10.0, 11.0])
    slim = FPGM(0.5).prune(conv_net(kernel))  # 1: 8+9+10, 9: 8+1+2, 10: 9+1+1, 11: 10+2+1
    np.testing.assert_array_equal(slim.get_layer("conv").kernel, kernel[..., [0, 3]])
    slim = MagnitudePruning(0.5).prune(conv_net(kernel))
    np.testing.assert_array_equal(slim.get_layer("conv").kernel, kernel[..., [2, 3]])


def test_group_lasso_scores_by_the_norm_in_its_layer():
    """Norms 5 and 12 of a layer whose mean is 8.5."""
    kernel = np.array([[3.0, 0], [4, 0], [0, 0], [0, 12]]).reshape(2, 2, 1, 2)
    inputs = keras.Input((4, 4, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 2, name="conv")(inputs))
    dense = keras.Model(inputs, layers.Dense(3)(x))
    dense.get_layer("conv").set_weights([kernel, np.zeros(2)])
    channel_state = ChannelState(resrep_keras.wrap(dense, GroupLasso(0.3)))
    scores = GroupLasso().scores(channel_state)
    np.testing.assert_allclose(scores[np.isfinite(scores)][:2], [5 / 8.5, 12 / 8.5])


def test_a_mean_over_layers_leaves_out_what_is_pinned():
    parts = [(np.array([0, 1, -1]), np.array([1.0, 2, 9])), (np.array([1]), np.array([4.0]))]
    np.testing.assert_array_equal(mean_over(parts, 3), [1, 3, np.inf])


def test_network_slimming_scores_by_the_scales():
    model = wrapped(method=NetworkSlimming(0.3))
    channel_state = ChannelState(model)
    scales = scales_of(channel_state)
    assert len(scales) == 2  # the stem and the inside of the block; the sum is coupled
    for number, (gamma, ids) in enumerate(scales):
        values = np.linspace(-1, 1, len(ids)) * (number + 1)
        gamma.assign(values)
        scores = model.method.scores(channel_state)
        np.testing.assert_allclose(scores[ids], abs(values), rtol=1e-6)


def test_random_channels_are_those_of_the_seed():
    def widths(seed):
        slim = RandomPruning(0.5, seed=seed).prune(conv_net(np.arange(36).reshape(3, 3, 1, 4)))
        return np.array(slim.get_layer("conv").kernel)[0, 0, 0].tolist()

    assert widths(0) == widths(0)
    assert len({tuple(widths(seed)) for seed in range(6)}) > 1


def test_growth_scores_by_all_that_goes_with_a_channel():
    """Norms by hand: kernels 3 and 4, read by 4 and 0: roots of 25 / 2 and 16 / 2."""
    inputs = keras.Input((4, 4, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1, name="conv")(inputs))
    dense = keras.Model(inputs, layers.Dense(1, name="out")(x))
    dense.get_layer("conv").set_weights([np.array([3.0, 4]).reshape(1, 1, 1, 2), np.zeros(2)])
    dense.get_layer("out").set_weights([np.array([[4.0], [0]]), np.zeros(1)])
    method = GroupLasso(0.3, growth=4)
    scores = method.scores(ChannelState(resrep_keras.wrap(dense, method)))
    np.testing.assert_allclose(scores[np.isfinite(scores)], [5 / 4.5, 4 / 4.5], rtol=1e-6)
    slim = method.prune(dense)  # by the kernel alone, it would be 4 that stays
    np.testing.assert_array_equal(slim.get_layer("conv").kernel, np.full((1, 1, 1, 1), 3.0))


def move(variable, axis, places, change):
    values = np.moveaxis(np.array(ops.convert_to_numpy(variable)), axis, 0)
    values[places] = change(values[places])
    variable.assign(np.moveaxis(values, 0, axis))


@pytest.mark.parametrize("name", ["residual", "concatenate", "vgg", "dense_block"])
def test_what_goes_with_a_channel_is_all_that_reads_it(name):
    """Where its readers hold zeros, it does not matter what makes it."""
    model = zoo.build(name)
    graph = resrep_keras.trace(model)
    channels = PrunableChannels(model, graph, GroupLasso(0.1, coupled=True).groups(graph))
    made = [(id(variable), axis) for variable, axis, _ in makers(channels)]
    for channel in [group.channels[0] for group in channels.groups]:
        own = [(v, axis, ids == channel) for v, axis, ids in members(channels) if channel in ids]
        reads = [one for one in own if len(one[0].shape) > 1 and (id(one[0]), one[1]) not in made]
        makes = [one for one in own if (id(one[0]), one[1]) in made]
        assert reads and makes
        for one in reads:
            move(*one, np.zeros_like)
        before = helpers.outputs_of(model)
        for one in makes:
            move(*one, lambda values: values + 1)
        for first, second in zip(before, helpers.outputs_of(model), strict=True):
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


# --- strengths ------------------------------------------------------------------------------------


PLANNED = [  # 8 steps to the selection; the sum of rates over 1 - momentum, and what it asks for
    (lambda: keras.optimizers.SGD(0.25, momentum=0.9), NetworkSlimming, 0.3 / 20),
    (lambda: keras.optimizers.SGD(5.0), NetworkSlimming, 0.3 / 40),
    (lambda: keras.optimizers.SGD(5.0, gradient_accumulation_steps=2), NetworkSlimming, 0.3 / 20),
    (lambda: keras.optimizers.SGD(5.0), GroupLasso, 0.02 / 40),
    (lambda: keras.optimizers.SGD(5.0), functools.partial(GroupLasso, growth=4), 0.15 / 40),
    (lambda: keras.optimizers.SGD(0.01), NetworkSlimming, 0.02),  # 0.3 / 0.08 is beyond all
    (lambda: keras.optimizers.SGD(0.0), NetworkSlimming, 0.02),
    (keras.optimizers.Adam, NetworkSlimming, 1e-3),
    (lambda: keras.optimizers.AdamW(0.1), GroupLasso, 1e-3),
    (  # rates 5 for 4 steps, then 2.5 for 4
        lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.PiecewiseConstantDecay([4], [5.0, 2.5])
        ),
        NetworkSlimming,
        0.3 / 30,
    ),
]


@pytest.mark.parametrize(("optimizer", "kind", "strength"), PLANNED, ids=range(len(PLANNED)))
def test_a_strength_is_planned_for_the_run(optimizer, kind, strength):
    model = wrapped(optimizer(), kind(0.3, at=0.5))
    model.optimizer.build(model.trainable_variables)
    plan = model.method.plan(0, 16, 4)
    assert plan.steps == (8,)
    found = model.method.planned_strength(plan, model.optimizer)
    np.testing.assert_allclose(found, strength, rtol=0.02)


@pytest.mark.parametrize(("strength", "begins"), [(None, 0.02), (0.5, 0.5)])
def test_a_run_begins_with_the_planned_strength_and_another_one_goes_on(strength, begins):
    model = wrapped(keras.optimizers.SGD(0.01), NetworkSlimming(0.3, at=0.5, strength=strength))
    seen = []
    spy = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            float(ops.convert_to_numpy(model.optimizer.strength))
        )
    )
    fit(model, 4, callbacks=[spy])
    fit(model, 1, callbacks=[spy])
    np.testing.assert_allclose(seen, [begins, 0, 0, 0, 0], rtol=1e-6)


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, optimizer", sample_pairs(METHODS, OPTIMIZERS, every=2))
def test_the_target_is_met_and_nothing_comes_back(kind, optimizer):
    model = wrapped(optimizer(), kind(0.4), jit_compile=True)
    history = fit(model, 4)
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 0.6
    assert history.history["macs_left"][-1] == slim.certificate.macs_left
    for layer in helpers.compactors(model):
        kept = ops.convert_to_numpy(layer.keep_mask)
        np.testing.assert_array_equal(ops.convert_to_numpy(layer.kernel), kept.astype("float32"))


@pytest.mark.parametrize("kind", sample(METHODS))
def test_a_selection_comes_where_it_is_asked_for(kind):
    left = fit(wrapped(method=kind(0.4, at=0.6)), 5).history["macs_left"]
    assert left[:2] == [1, 1] and max(left[2:]) <= 0.6


@pytest.mark.parametrize(
    ("at", "first", "last", "step"),
    [(0.0, 7, 27, 7), (0.5, 7, 27, 17), (0.01, 7, 27, 8), (0.99, 7, 27, 26), (0.5, 3, 3, 3)],
)
def test_the_step_of_the_selection(at, first, last, step):
    """At least one step before it where there is something to measure, and one behind it."""
    assert MagnitudePruning(at=at).plan(first, last, 5).steps == (step,)


def test_what_meets_the_target_is_not_chosen_anew():
    """The channel of the later layer goes first, and would not be needed behind the other two."""
    inputs = keras.Input((6, 6, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="large")(inputs))
    dense = keras.Model(inputs, layers.Dense(2)(layers.Dense(4, name="small")(x)))
    kernel = np.ones((3, 3, 1, 4)) * np.array([1.0, 1.1, 3, 3])
    dense.get_layer("large").set_weights([kernel, np.zeros(4)])
    dense.get_layer("small").set_weights([np.ones((4, 4)) * [0.01, 1, 1, 1], np.zeros(4)])
    method = MagnitudePruning(0.49)
    channel_state = ChannelState(resrep_keras.wrap(dense, method))
    for _ in range(2):
        method.update(channel_state, None, None, 0)
        masks = [np.array(layer.keep_mask).tolist() for layer, _ in channel_state.compactors]
        assert masks == [[False, False, True, True], [False, True, True, True]]


@pytest.mark.parametrize("kind", sample(METHODS, first=1))
def test_a_second_run_keeps_the_choice(kind):
    model = wrapped(method=kind(0.4))
    fit(model, 2)
    masks = [ops.convert_to_numpy(layer.keep_mask) for layer in helpers.compactors(model)]
    fit(model, 2)
    for layer, mask in zip(helpers.compactors(model), masks):
        np.testing.assert_array_equal(ops.convert_to_numpy(layer.keep_mask), mask)
    resrep_keras.finalize(model, strict=True)


@pytest.mark.parametrize("kind", sample(METHODS))
def test_gradients_may_be_accumulated_and_scaled(kind):
    model = wrapped(momentum(gradient_accumulation_steps=2, loss_scale_factor=64.0), kind(0.4))
    fit(model)
    resrep_keras.finalize(model, strict=True)


def test_averages_of_weights_take_their_place_and_leave_zeros():
    """With a share of one half, the average of two steps is the mean of both."""
    states = []

    class Spy(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            states.append([ops.convert_to_numpy(v) for v in self.model.trainable_variables])

    x, y = data(32)
    model = wrapped(method=MagnitudePruning(0.4))
    model.fit(x, y, 16, 1, verbose=0, shuffle=False, callbacks=[Spy()])
    optimizer = keras.optimizers.SGD(0.01, use_ema=True, ema_momentum=0.5)
    averaged = wrapped(optimizer, MagnitudePruning(0.4))
    averaged.fit(x, y, 16, 1, verbose=0, shuffle=False)
    first, second = states[:2]
    assert len(states) == 2 and any(np.abs(a - b).max() > 1e-4 for a, b in zip(first, second))
    for a, b, variable in zip(first, second, averaged.trainable_variables, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), (a + b) / 2, atol=1e-6)
    resrep_keras.finalize(averaged, strict=True)


# --- words ----------------------------------------------------------------------------------------


def without_norms(**settings):
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, name="first")(inputs))
    dense = keras.Model(inputs, layers.Dense(3)(x))
    model = resrep_keras.wrap(dense, NetworkSlimming(0.3, **settings))
    model.compile("sgd", loss())
    return model


def with_another_optimizer():
    model = wrapped(method=TaylorPruning(0.3))
    model.optimizer = keras.optimizers.SGD()
    return model


BAD = [
    (
        lambda: MagnitudePruning(at=1),
        ValueError,
        "at to be a number of 0 or more and below 1; got 1",
    ),
    (lambda: FPGM(at="half"), TypeError, "at to be a number of 0 or more .*; got 'half'"),
    (lambda: FPGM(0), ValueError, "target_reduction to be a number above 0 and below 1; got 0"),
    (lambda: FPGM(None), ValueError, "target_reduction or at_most .*; got neither"),
    (lambda: TaylorPruning(at=0), ValueError, "at to be a number above 0 and below 1; got 0"),
    (lambda: RandomPruning(seed=-1), ValueError, "seed to be an int of 0 or more; got -1"),
    (lambda: NetworkSlimming(strength=-1), ValueError, "strength to be a number of 0 or more; got"),
    (
        lambda: GroupLasso().optimizer(keras.optimizers.SGD()),
        ValueError,
        r"GroupLasso .*as second argument: method.optimizer\(inner, model\)",
    ),
    (
        lambda: TaylorPruning(0.3).prune(zoo.build("residual")),
        ValueError,
        "measures its scores in training.*fit and finalize",
    ),
    (
        lambda: fit(without_norms()),
        ValueError,
        "the target needs channels of first, which have none. Lower target_reduction",
    ),
    (
        lambda: fit(with_another_optimizer()),
        ValueError,
        r"TaylorPruning\(at=0.1\) .*expects its own TaylorOptimizer; got NoneType",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()
