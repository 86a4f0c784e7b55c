"""AOFP removes by what it has measured, however a step is run; an interval is what was given."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.budget import UnreachableTarget
from resrep_keras.methods.channels.aofp import AOFP
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.sparse.granet import GraNet
from tests import helpers, zoo
from tests.conditions import training

ACTIVATIONS = {
    "ReLU": layers.ReLU,
    "LeakyReLU": layers.LeakyReLU,
    "ELU": layers.ELU,
    "PReLU": lambda: layers.PReLU(shared_axes=[1, 2]),
    "Activation": lambda: layers.Activation("relu"),
    "ops.relu": lambda: ops.relu,
    "ops.leaky_relu": lambda: lambda x: ops.leaky_relu(x, 0.1),
}

# A layer without weights, one with weights and an operation; the others in slow runs.
EVERY_RUN = ("ReLU", "PReLU", "ops.leaky_relu")
MODES = {"compiled": {}, "eager": {"run_eagerly": True}, "XLA": {"jit_compile": True}}


def net(activation):
    inputs = x = keras.Input((8, 8, 3))
    for width in (8, 6):
        x = layers.Conv2D(width, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = ACTIVATIONS[activation]()(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    zoo.randomise(model, 0)
    return model


def trained(activation, mode):
    model = resrep_keras.wrap(net(activation), AOFP(0.3, interval=3, max_damage=0.2))
    model.compile(keras.optimizers.SGD(0.01), training.loss(), **MODES[mode])
    training.fit(model, epochs=8)
    return model


@pytest.mark.filterwarnings("ignore:AOFP's moves of max_damage")
@pytest.mark.parametrize(
    "activation",
    [pytest.param(a, marks=() if a in EVERY_RUN else pytest.mark.slow) for a in ACTIVATIONS],
)
def test_the_same_channels_go_however_a_step_is_run(activation):
    modes = MODES if activation in ("ReLU", "PReLU") else ("compiled", "eager")
    models = {mode: trained(activation, mode) for mode in modes}
    expected = training.masks(models["eager"])
    assert sum((~mask).sum() for mask in expected) >= 2
    for mode, model in models.items():
        for mask, layer, like in zip(training.masks(model), helpers.compactors(model), expected):
            np.testing.assert_array_equal(mask, like, err_msg=mode)
            scores = ops.convert_to_numpy(layer.scores)
            assert np.isfinite(scores).any(), f"{mode}: nothing was measured"
            assert len(set(scores[np.isfinite(scores)])) > 1


def test_the_measured_block_ends_behind_a_raw_activation():
    model = resrep_keras.wrap(net("ops.relu"), AOFP(0.3))
    state = ChannelState(model)
    (first, _) = AOFP(0.3).searches(state)
    (reader,) = first.readers
    calls = {call.name: call.operation for call in state.graph.calls}
    kinds = [type(calls[name]).__name__.lower() for name in reader.chain]
    assert kinds == ["conv2d", "batchnormalization", "scoredcompactor", "relu"]


# --- what was not measured ------------------------------------------------------------------------


def test_channels_that_were_never_measured_are_told():
    model = resrep_keras.wrap(net("ReLU"), AOFP(0.3))
    state = ChannelState(model)
    text = "smallest damages go beside them, and [1-9] that no half has ever left out"
    with pytest.warns(UserWarning, match=text):
        model.method._complete(state, model.method.limits(state))


def test_a_layer_that_cannot_be_measured_is_told_and_keeps_its_channels():
    dense = zoo.build("embedding")
    with pytest.warns(UserWarning, match="keeps all channels .* 'embedding', since 'lstm"):
        model = resrep_keras.wrap(dense, AOFP(0.05, interval=1, max_damage=100.0))
    state = ChannelState(model)
    measured = {group.name for group in model.method.selectable(state)}
    assert "embedding" in {group.name for group in state.groups} and "embedding" not in measured
    for step in range(2, 12):
        plan = model.method.plan(0, 20, 1)
        if step in plan.steps:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "AOFP's moves")
                model.method.update(state, None, plan, step)
    kept = state.kept()
    for group in state.groups:
        assert kept[group.channels].all() == (group.name not in measured)


def test_a_target_that_measured_layers_cannot_meet_is_refused():
    with pytest.raises(UnreachableTarget, match=r"AOFP measures no damage of .*'embedding'"):
        resrep_keras.wrap(zoo.build("embedding"), AOFP(0.9))


def test_the_settings_of_the_paper_in_a_short_run_are_refused_before_the_first_step():
    model = resrep_keras.wrap(net("ReLU"), AOFP.paper(target_reduction=0.3))
    model.compile("sgd", training.loss())
    before = model.get_weights()
    with pytest.raises(ValueError, match="at least 2000 steps, two half-rounds; got 12 of 48"):
        training.fit(model, epochs=12)
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


# --- intervals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [7, 9])
def test_half_rounds_are_as_long_as_the_interval(interval, monkeypatch):
    """Of 80 steps, the search has those from int(0.05 * 80) = 4 to 40."""
    lengths, decide = [], AOFP._decide

    def noted(self, channel_state, search, limits, step):
        begun = int(ops.convert_to_numpy(search.compactor.begun))
        lengths.append((search.group.name, begun, step - begun))
        decide(self, channel_state, search, limits, step)

    monkeypatch.setattr(AOFP, "_decide", noted)
    model = training.wrapped(method=AOFP(None, interval=interval, max_damage=0.0, search_end=0.5))
    training.fit(model, epochs=20)
    assert {length for _, _, length in lengths} == {interval}
    first = next(name for name, *_ in lengths)
    begun = [step for name, step, _ in lengths if name == first]
    assert begun == [4 + number * interval for number in range((40 - 4) // interval)]


@pytest.mark.parametrize(("interval", "acts"), [(150, [150]), (60, [60, 120, 180])])
def test_masks_of_single_weights_change_at_multiples_of_the_interval(interval, acts):
    changed = changes(GraNet.rigl(0.5, interval=interval), 200)
    assert changed == acts


def test_gradual_pruning_ends_at_its_target_with_the_last_whole_interval():
    # From step 0 to 100: updates at 30, 60 and 90; nothing grows.
    assert changes(GraNet.gmp(0.8, interval=30), 200) == [30, 60, 90]


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (GraNet.gmp(0.8, interval=150), "at most 100 steps, .* before gradual pruning ends; got"),
        (GraNet.rigl(0.8, interval=201), "at most 200 steps, .* before the run ends; got 201"),
        (GraNet(0.8, begin=0.2, interval=61), "at most 60 steps"),
    ],
)
def test_an_interval_that_does_not_fit_is_refused(method, text):
    with pytest.raises(ValueError, match=text):
        changes(method, 200)


def changes(method, steps):
    """After which steps of a run masks have changed."""
    inputs = keras.Input((6,))
    dense = keras.Model(inputs, layers.Dense(2)(layers.Dense(16, activation="relu")(inputs)))
    zoo.randomise(dense, 0)
    model = resrep_keras.wrap(dense, method)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 6)).astype("float32")
    y = generator.normal(size=(200, 2)).astype("float32")
    found, last = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            masks = np.concatenate([m.ravel() for m in self.model.optimizer.masks().values()])
            if last and (masks != last[-1]).any():
                found.append(batch + 1)
            last.append(masks)

    model.fit(x, y, batch_size=200 // steps, verbose=0, callbacks=[Watch()])
    return found
