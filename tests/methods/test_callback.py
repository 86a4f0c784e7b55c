"""MethodCallback: what a method is told of a run."""

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras.methods.callback import MethodCallback
from resrep_keras.methods.channels.callback import PruningCallback
from resrep_keras.methods.gradients.method import ActivationGradientPruning
from tests import helpers, zoo


class Told(resrep_keras.MagnitudePruning):
    """Notes what it is told at the end of a run."""

    def end_of_run(self, model, data):
        NOTES.append((model, data))


NOTES = []


@pytest.fixture(autouse=True)
def no_notes():
    NOTES.clear()


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (resrep_keras.ResRep(), PruningCallback),
        (resrep_keras.GraNet(0.5), MethodCallback),
        (
            resrep_keras.compose(ActivationGradientPruning(), resrep_keras.ResRep()),
            PruningCallback,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_method_brings_the_callback_of_its_kind(method, kind):
    assert type(method.callback()) is kind


def test_a_method_is_told_of_the_end_of_a_run_and_its_data():
    model = resrep_keras.wrap(zoo.build("chain"), Told(0.3))
    model.compile("sgd", "mse")
    x = helpers.example_inputs(model, 4)
    y = np.zeros((4, *model.output_shape[1:]), "float32")
    pruning = PruningCallback()
    model.fit(x, y, sample_weight=np.ones(4), epochs=2, verbose=0, callbacks=[pruning])
    ((told, data),) = NOTES
    assert told is model and data.x is x and data.y is y and data.sample_weight.shape == (4,)
    assert pruning.fit_call is None  # data and callbacks are let go of


def test_in_a_loop_of_ones_own_the_data_are_not_known():
    model = resrep_keras.wrap(zoo.build("chain"), Told(0.3))
    model.compile("sgd", "mse")
    callbacks = keras.callbacks.CallbackList([PruningCallback()], model=model, epochs=1, steps=1)
    callbacks.on_train_begin()
    callbacks.on_train_end()
    assert NOTES == [(model, None)]


def test_a_training_loop_of_ones_own_ends_its_epochs():
    """Keras sets `stop_training` in `fit` alone."""
    model = resrep_keras.wrap(zoo.build("chain"))
    model.optimizer = model.method.optimizer(keras.optimizers.SGD())
    pruning = resrep_keras.PruningCallback()
    callbacks = keras.callbacks.CallbackList([pruning], model=model, epochs=4, steps=4)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for number in range(4):
        model.optimizer.apply([ops.ones_like(v) for v in model.trainable_variables])
        callbacks.on_train_batch_end(number)
    callbacks.on_epoch_end(0)
    assert pruning.macs_left() < 1
