"""PruningCallback, driven by hand; whole runs are in `conditions/test_callbacks.py`."""

import dataclasses

import keras
import pytest

import resrep_keras
from resrep_keras import PruningCallback, ResRep
from tests import helpers, zoo

STEPS, EPOCHS = 4, 5


def begun(method=None):
    model = resrep_keras.wrap(zoo.build("chain"), method or ResRep(0.3))
    model.compile("sgd", "mse")
    pruning = PruningCallback()
    callbacks = keras.callbacks.CallbackList([pruning], model=model, epochs=EPOCHS, steps=STEPS)
    callbacks.on_train_begin()
    return model, pruning, callbacks


def test_nothing_is_planned_before_the_first_epoch():
    _, pruning, callbacks = begun()
    assert pruning.plan is None and pruning.selecting
    callbacks.on_epoch_begin(0)
    assert pruning.plan is not None and pruning.selecting


def test_selections_mask_channels_until_the_target_is_chosen():
    model, pruning, callbacks = begun()
    for epoch in range(EPOCHS):
        callbacks.on_epoch_begin(epoch)
        for step in range(STEPS):
            callbacks.on_train_batch_begin(step)
            model.optimizer.steps.assign_add(1)
            callbacks.on_train_batch_end(step)
        logs = {}
        pruning.on_epoch_end(epoch, logs)  # a list of callbacks would hand on a copy
        assert logs["macs_left"] == pruning.macs_left()
    assert not pruning.selecting and pruning.macs_left() <= 0.7
    assert not pruning.target_met()  # nothing has been trained: masked columns are not zero


def test_the_target_is_met_once_masked_channels_are_zero():
    model, pruning, _ = begun()
    state = pruning.channel_state
    assert not pruning.target_met()
    helpers.kill(model, pruning.method.choose(state, state.norms()), state)
    assert pruning.target_met()


def test_the_channels_are_read_again_where_the_baseline_is_another():
    model, pruning, _ = begun()
    state = pruning.channel_state
    assert pruning.channel_state is state
    model.baseline = dataclasses.replace(model.baseline)
    assert pruning.channel_state is not state


def test_a_model_without_a_method_is_refused():
    with pytest.raises(ValueError, match=r"holds no pruning method.*PruningCallback\(method\)"):
        PruningCallback().set_model(zoo.build("chain"))
