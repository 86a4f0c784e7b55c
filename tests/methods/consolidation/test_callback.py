"""What is checked before the first step of a task."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras import MAS
from resrep_keras.methods.consolidation.callback import check_stable
from tests.methods.consolidation import nets


def compiled(optimizer, strength=1.0, importance=10.0):
    model = nets.wrapped(MAS(strength), nets.dense_model(2), optimizer)
    model.optimizer.build(model.trainable_variables)
    held = model.optimizer.held[0]
    value = np.zeros(held.importance.shape)
    value[0, 0] = importance
    held.importance.assign(value)
    return model


def swings(rate, momentum, nesterov, curvature):
    """Whether gradient descent on `curvature * w ** 2 / 2` grows, in NumPy."""
    w, v = 1.0, 0.0
    for _ in range(3000):
        gradient = curvature * w
        v = momentum * v - rate * gradient
        w = w + (momentum * v - rate * gradient if nesterov else v)
        if abs(w) > 1e6:
            return True
    return False


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.9, True)])
def test_the_bound_is_that_of_gradient_descent(momentum, nesterov):
    """The curvature of `strength * importance * w ** 2` is 2 * 1 * 10."""
    bound = (2 + 2 * momentum) / (1 + 2 * momentum if nesterov else 1) / 20
    for factor in (0.98, 1.02):
        rate = factor * bound
        assert swings(rate, momentum, nesterov, 20) == (factor > 1)
        sgd = keras.optimizers.SGD(rate, momentum=momentum, nesterov=nesterov)
        optimizer = compiled(sgd).optimizer
        if factor < 1:
            check_stable(optimizer)
        else:
            with pytest.raises(ValueError, match=r"diverges. Expected a learning_rate below"):
                check_stable(optimizer)


def test_the_error_names_what_would_do():
    optimizer = compiled(keras.optimizers.SGD(0.5), strength=4.0).optimizer
    with pytest.raises(ValueError, match=r"learning_rate below 0.025, or a strength below 0.2;"):
        check_stable(optimizer)
    optimizer.learning_rate = 0.0249
    check_stable(optimizer)


def test_what_is_clipped_swings_and_is_warned_of():
    for clip in ({"clipnorm": 1.0}, {"clipvalue": 1.0}, {"global_clipnorm": 1.0}):
        with pytest.warns(UserWarning, match=r"swings to and fro, held by clipping only"):
            check_stable(compiled(keras.optimizers.SGD(0.5, **clip)).optimizer)


def test_other_optimizers_bound_their_steps():
    check_stable(compiled(keras.optimizers.Adam(0.5)).optimizer)


def test_a_run_that_would_diverge_is_refused_before_its_first_step():
    model = compiled(keras.optimizers.SGD(0.5))
    before = nets.weights_of(model)
    with pytest.raises(ValueError, match=r"too large for each other"):
        nets.fit(model)
    after = nets.weights_of(model)
    assert all((before[path] == after[path]).all() for path in before)


@pytest.mark.tensorflow_only  # on JAX, Keras computes the loss, and raises, before any callback
@pytest.mark.parametrize(
    "losses",
    [
        {"loss": [nets.loss(), nets.loss()]},
        {"loss": {"task_0": nets.loss(), "task_1": nets.loss()}},
        {"loss": nets.loss(), "loss_weights": [1.0, 2.0]},
    ],
)
def test_a_loss_for_each_output_is_refused_in_words(losses):
    model = compiled("sgd")
    model.compile("sgd", **losses)
    with pytest.raises(TypeError, match=r"to be that of one output.*compile\(\) again behind"):
        nets.fit(model)


def test_the_length_of_a_run_does_not_matter():
    model = compiled(keras.optimizers.SGD(0.01))
    x, y = nets.data()
    batches = ((x, y) for _ in itertools.count())
    model.fit(batches, steps_per_epoch=3, shuffle=False, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.steps)) == 3
