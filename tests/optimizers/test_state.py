"""compile() in the middle of a run: what pruning remembers lives in the model."""

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras.optimizers.wrapper import find_wrapper
from tests.conditions import training
from tests.sampling import sample

METHODS = {
    "resrep": lambda: resrep_keras.ResRep(0.4),
    "granet": lambda: resrep_keras.GraNet(0.8, interval=2),
    "taylor": lambda: resrep_keras.TaylorPruning(0.4, at=0.5),
    "group lasso": lambda: resrep_keras.GroupLasso(0.4, at=0.25, strength=1e-2),
}
STOP, EPOCHS = 3, 8


def sgd():
    return keras.optimizers.SGD(0.01)  # without a momentum that compile() would begin anew


def kept(model):
    """``{name: value}`` of the variables of pruning, and the kernels of compactors."""
    variables = find_wrapper(model.optimizer).kept()
    listed = [id(v) for v in model.optimizer.variables]
    assert all(listed.count(id(v)) == 1 for v in variables)
    found = {v.path: ops.convert_to_numpy(v) for v in variables}
    assert {"plan", "steps"} <= set(found)
    return found


def trained(kind, epochs=(0, EPOCHS), model=None):
    if model is None:
        keras.utils.set_random_seed(1)
        model = training.wrapped(sgd(), METHODS[kind]())
    first, last = epochs

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch + 1 == last

    # The plan is that of the whole run; the interruption comes from outside.
    callbacks = [Stop()]
    history = training.fit(model, EPOCHS, initial_epoch=first, callbacks=callbacks)
    return model, history.history


@pytest.mark.parametrize("wrapping", [False, True], ids=["plain", "loss scale"])
@pytest.mark.parametrize("kind", METHODS)
def test_what_pruning_remembers_outlives_the_optimizer(kind, wrapping):
    model, _ = trained(kind, (0, STOP))
    before = kept(model)
    optimizer = keras.optimizers.LossScaleOptimizer(sgd()) if wrapping else sgd()
    model.compile(optimizer, training.loss())
    assert find_wrapper(model.optimizer).inner_optimizer.iterations == 0
    model.optimizer.build(model.trainable_variables)
    after = kept(model)
    assert before.keys() == after.keys() and len(before) > 2
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)
    assert int(after["steps"]) == 4 * STOP and after["plan"].tolist() == [0, 4 * EPOCHS]


@pytest.mark.parametrize("kind", sample(METHODS))
def test_a_run_goes_on_as_without_a_second_compile(kind):
    """ResRep's compactors have a momentum, which is the optimizer's and begins anew."""
    whole, history = trained(kind)
    model, first = trained(kind, (0, STOP))
    model.compile(sgd(), training.loss())
    model, second = trained(kind, (STOP, EPOCHS), model)
    for name in ("macs_left", "sparsity"):
        assert history.get(name, []) == first.get(name, []) + second.get(name, [])
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 1
    if kind != "resrep":
        for ours, theirs in zip(whole.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_penalty_that_has_ended_stays_so():
    model, _ = trained("group lasso", (0, STOP))
    assert float(model.optimizer.strength) == 0
    model.compile(sgd(), training.loss())
    model.optimizer.build(model.trainable_variables)
    assert float(model.optimizer.strength) == 0


def test_masks_hold_from_the_first_step_on():
    model, history = trained("granet", (0, STOP))
    sparsity = history["sparsity"][-1]
    assert sparsity > 0.5
    model.compile("adam", training.loss())
    _, history = trained("granet", (STOP, EPOCHS), model)
    assert min(history["sparsity"]) >= sparsity


def test_an_optimizer_that_was_built_by_hand_keeps_what_it_remembers():
    model = training.wrapped(sgd(), METHODS["resrep"]())
    own = model.method.optimizer(sgd(), model)
    own.build(model.trainable_variables)
    own.steps.assign(7)
    model.compile(own, training.loss())
    assert int(model.optimizer.steps) == 7
    model.compile(sgd(), training.loss())
    model.optimizer.build(model.trainable_variables)
    assert int(model.optimizer.steps) == 7
