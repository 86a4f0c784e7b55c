"""The model that `wrap` returns: compile and fit."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import PenaltyOptimizer, PruningCallback
from tests import zoo
from tests.conditions.training import data, loss, wrapped

pytestmark = pytest.mark.tensorflow_only


@pytest.mark.parametrize(
    "optimizer", ["adam", "sgd", keras.optimizers.AdamW(1e-3), keras.optimizers.RMSprop(1e-3)]
)
def test_compile_wraps_any_optimizer_once(optimizer):
    model = wrapped(optimizer=optimizer)
    assert isinstance(model.optimizer, PenaltyOptimizer)
    assert not isinstance(model.optimizer.inner_optimizer, PenaltyOptimizer)
    own = PenaltyOptimizer("sgd", penalty_strength=1e-3)
    model.compile(own, loss())
    assert model.optimizer is own


def test_a_loss_scale_stays_outside():
    model = wrapped(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01)))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, PenaltyOptimizer)
    x, y = data()
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    resrep_keras.finalize(model, strict=True)


def test_fit_installs_one_callback_and_keeps_the_users():
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["macs_left"])

    model = wrapped()
    x, y = data()
    own = PruningCallback()
    model.fit(x, y, 16, 2, 0, [own, Spy()])
    model.fit(x, y, epochs=2, verbose=0, callbacks=Spy())
    assert len(seen) == 4 and own.macs_left() < 1


def test_fit_takes_a_list_of_callbacks_that_keras_made():
    model, x, y = wrapped(), *data()
    users = keras.callbacks.CallbackList(
        [keras.callbacks.Callback()], add_history=True, model=model, epochs=5, steps=4
    )
    model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=users)
    assert isinstance(users.callbacks[0], PruningCallback)
    assert len(users.callbacks) == 3
    resrep_keras.finalize(model, strict=True)


def test_steps_per_execution():
    model = wrapped(steps_per_execution=3)
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=6, verbose=0)
    resrep_keras.finalize(model, strict=True)


BAD = [
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).compile(optimizer="sdg"),
        ValueError,
        "sdg",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).compile(keras.optimizers.SGD(use_ema=True)),
        ValueError,
        "Set use_ema=False",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).compile("sgd", lr=0.1),
        TypeError,
        "unexpected keyword argument 'lr'",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).fit(np.ones((4, 8, 8, 3)), np.ones(4)),
        ValueError,
        "compile",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()
