"""Law 2: the compactor update against a NumPy oracle, under any inner optimizer."""

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras import Compactor, PenaltyOptimizer
from tests import zoo
from tests.updates import (
    INNER,
    RATE,
    SCALES,
    STRENGTH,
    Oracle,
    apply,
    gradients_like,
    make,
    numpy_gradient,
    train_step,
)


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("inner", INNER)
def test_one_step_equals_the_oracle(inner, diagonal, rank):
    model, compactor, optimizer, x, target = make(INNER[inner](), diagonal=diagonal, rank=rank)
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), compactor.keep_mask)
    oracle.step(numpy_gradient(model, compactor, x, target))
    before = ops.convert_to_numpy(model.get_layer("hidden").kernel)
    train_step(model, optimizer, x, target)
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=2e-5, atol=2e-6
    )
    assert np.abs(ops.convert_to_numpy(model.get_layer("hidden").kernel) - before).max() > 0


def test_fifty_steps_equal_the_oracle_under_a_decaying_rate():
    schedule = keras.optimizers.schedules.CosineDecay(0.02, 50)
    model, compactor, optimizer, x, target = make(keras.optimizers.SGD(schedule))
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), compactor.keep_mask)
    for step in range(50):
        gradient = numpy_gradient(model, compactor, x, target)
        train_step(model, optimizer, x, target)
        oracle.step(gradient, rate=0.01 * (1 + np.cos(np.pi * step / 50)))
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 2.0])
def test_compactors_learn_at_a_share_of_the_rate(share):
    model, compactor, _, x, target = make(keras.optimizers.SGD(RATE))
    inner = keras.optimizers.SGD(RATE)
    optimizer = PenaltyOptimizer(inner, STRENGTH, momentum=0.9, compactor_rate=share)
    optimizer.build(model.trainable_variables)
    assert type(optimizer).from_config(optimizer.get_config()).compactor_rate == share
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), compactor.keep_mask)
    for _ in range(3):
        oracle.step(numpy_gradient(model, compactor, x, target), rate=share * RATE)
        train_step(model, optimizer, x, target)
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=5e-5, atol=5e-6
    )


def test_inner_optimizer_treats_the_other_variables_as_without_compactors():
    model, _, optimizer, x, target = make(keras.optimizers.Adam(RATE, global_clipnorm=0.1))
    plain = keras.optimizers.Adam(RATE, global_clipnorm=0.1)
    hidden = model.get_layer("hidden")
    twin = keras.layers.Dense.from_config(hidden.get_config())
    twin.build((None, 2, 2, 3))
    twin.set_weights(hidden.get_weights())
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares with a TensorFlow recording")
    import tensorflow as tf

    with tf.GradientTape() as recording:
        loss = ops.sum(ops.square(model.get_layer("compactor")(twin(x)) - target)) / 2
    plain.apply(recording.gradient(loss, twin.trainable_variables), twin.trainable_variables)
    train_step(model, optimizer, x, target)
    for ours, theirs in zip(hidden.weights, twin.weights):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=1e-6)


def test_the_objective_does_not_reach_a_masked_column():
    model, compactor, optimizer, x, target = make(keras.optimizers.SGD(RATE), mask=(1, 0, 1, 0))
    before = ops.convert_to_numpy(compactor.kernel).astype(np.float64)
    train_step(model, optimizer, x, target)
    after = ops.convert_to_numpy(compactor.kernel)
    norms = np.sqrt((before**2).sum(axis=(0, 1, 2)))
    for column in (1, 3):  # the penalty alone: straight towards zero
        expected = before[..., column] * (1 - RATE * STRENGTH / norms[column])
        np.testing.assert_allclose(after[..., column], expected, rtol=1e-5)


def test_a_zero_column_gives_no_nan_and_stays_zero():
    kernel = np.random.default_rng(1).normal(size=(1, 1, 4, 4))
    kernel[..., 1] = 0
    model, compactor, optimizer, x, target = make(keras.optimizers.SGD(RATE), kernel=kernel)
    for _ in range(3):
        train_step(model, optimizer, x, target)
    after = ops.convert_to_numpy(compactor.kernel)
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(after[..., 1], 0)


def test_forgetting_reaches_exact_zero_after_the_planned_steps_and_stays():
    model, compactor, optimizer, x, target = make(keras.optimizers.Adam(1e-3))
    norm = compactor.column_norms()[1]
    optimizer.forget(compactor.kernel, np.array([0, norm / 8, 0, 0]))
    for step in range(1, 13):
        train_step(model, optimizer, x, target)
        if step < 7:
            np.testing.assert_allclose(
                compactor.column_norms()[1], norm * (1 - step / 8), rtol=1e-4
            )
    assert compactor.column_norms()[1] == 0
    assert (compactor.column_norms()[[0, 2, 3]] > 0.1).all()


def test_a_released_column_follows_its_gradient_again():
    model, compactor, optimizer, x, target = make(keras.optimizers.SGD(RATE), mask=(1, 1, 1, 1))
    optimizer.forget(compactor.kernel, np.full(4, 1e-3))
    optimizer.forget(compactor.kernel, np.zeros(4))
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), np.ones(4))
    oracle.step(numpy_gradient(model, compactor, x, target))
    train_step(model, optimizer, x, target)
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=2e-5, atol=2e-6
    )


def test_columns_are_the_last_axis():
    """A transposed norm would pull row 0, not column 1, towards zero."""
    kernel = np.array([[1.0, 5.0], [2.0, 0.5]]).reshape(1, 1, 2, 2)
    compactor = Compactor()
    compactor.build((None, 3, 3, 2))
    compactor.kernel.assign(kernel)
    np.testing.assert_allclose(compactor.column_norms(), [np.sqrt(5.0), np.sqrt(25.25)])
    optimizer = PenaltyOptimizer(keras.optimizers.SGD(1.0), penalty_strength=0.1, momentum=0.0)
    optimizer.build([compactor.kernel])
    optimizer.apply([ops.zeros((1, 1, 2, 2))], [compactor.kernel])
    expected = kernel - 0.1 * kernel / np.sqrt([5.0, 25.25])
    np.testing.assert_allclose(ops.convert_to_numpy(compactor.kernel), expected, rtol=1e-6)


def test_config_round_trip():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    optimizer = PenaltyOptimizer(keras.optimizers.Adam(schedule), 2e-4, 0.95)
    revived = PenaltyOptimizer.from_config(optimizer.get_config())
    assert revived.get_config() == optimizer.get_config()
    assert revived.penalty_strength == 2e-4 and revived.momentum == 0.95


def test_learning_rate_passes_through():
    optimizer = PenaltyOptimizer(keras.optimizers.SGD(0.5))
    optimizer.learning_rate = 0.25
    assert float(ops.convert_to_numpy(optimizer.inner_optimizer.learning_rate)) == 0.25


@pytest.mark.parametrize(
    ("make_it", "error", "text"),
    [
        (lambda: PenaltyOptimizer(PenaltyOptimizer("sgd")), TypeError, "plain optimizer"),
        (
            lambda: PenaltyOptimizer("sgd", -1.0),
            ValueError,
            "penalty_strength to be a number of 0 or more; got -1.0",
        ),
        (
            lambda: PenaltyOptimizer("sgd", momentum=1.0),
            ValueError,
            "0 or more and below 1; got 1.0",
        ),
        (lambda: PenaltyOptimizer("sgd", clipnorm=1.0), ValueError, "belong to `inner_optimizer`"),
        (
            lambda: PenaltyOptimizer(keras.optimizers.SGD(use_ema=True)),
            ValueError,
            "Set use_ema=False",
        ),
        (lambda: PenaltyOptimizer("sgd", float("nan")), ValueError, "got nan"),
    ],
)
def test_bad_settings(make_it, error, text):
    with pytest.raises(error, match=text):
        make_it()


def test_gradient_accumulation_adds_the_penalty_once():
    model, compactor, optimizer, x, target = make(
        keras.optimizers.SGD(RATE, gradient_accumulation_steps=2)
    )
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), compactor.keep_mask)
    oracle.step(numpy_gradient(model, compactor, x, target))
    before = ops.convert_to_numpy(compactor.kernel)
    train_step(model, optimizer, x, target)
    np.testing.assert_array_equal(ops.convert_to_numpy(compactor.kernel), before)
    train_step(model, optimizer, x, target)
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=2e-5, atol=2e-6
    )


def test_public_name():
    assert resrep_keras.PenaltyOptimizer is PenaltyOptimizer


def test_state_holds_no_variable_of_the_model():
    """JAX gives up the buffers of model and optimizer at each step, and no buffer twice."""
    optimizer = PenaltyOptimizer("adam")
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(0.2))
    optimizer.build(model.trainable_variables)
    own = {id(variable) for variable in optimizer.variables}
    assert len(own) == len(optimizer.variables)
    assert own.isdisjoint(id(variable) for variable in model.variables)


class Watcher:
    """The mean of `(sum of g * K_j / ||K_j||) ** 2` over updates, of which the last 50 count most.

    An update of a column without gradient does not count. The first fifty weigh alike.
    """

    def __init__(self, channels):
        self.mean, self.seen = np.zeros(channels), np.zeros(channels)

    def step(self, gradient, kernel):
        kernel = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
        along = (np.asarray(gradient, np.float64).reshape(kernel.shape) * kernel).sum(axis=0)
        squared = along**2 / (kernel**2).sum(axis=0)
        for channel in np.flatnonzero(along):
            self.seen[channel] += 1
            share = max(0.02, 1 / self.seen[channel])
            self.mean[channel] += share * (squared[channel] - self.mean[channel])

    def of(self, kernel):
        return self.mean * (np.asarray(kernel, np.float64) ** 2).reshape(-1, len(self.mean)).sum(0)


@pytest.mark.parametrize("steps", [1, 70])
@pytest.mark.parametrize(("diagonal", "rank"), [(False, 4), (True, 2)])
def test_what_a_column_is_worth_equals_the_oracle(diagonal, rank, steps):
    model, compactor, optimizer, _, _ = make(
        keras.optimizers.SGD(0.01), diagonal=diagonal, rank=rank
    )
    watcher, shape = Watcher(4), compactor.kernel.shape
    generator = np.random.default_rng(3)
    assert optimizer.squared_changes(compactor.kernel).tolist() == [0.0] * 4
    for step in range(steps):
        gradient = generator.normal(size=shape)
        gradient[..., 1] *= step % 2  # masked, as it were, in every second update
        watcher.step(gradient, ops.convert_to_numpy(compactor.kernel))
        drawn = gradients_like(model.trainable_variables, step)
        gradients = [
            ops.convert_to_tensor(gradient, "float32") if v is compactor.kernel else g
            for v, g in zip(model.trainable_variables, drawn)
        ]
        apply(optimizer, gradients, model.trainable_variables)
    expected = watcher.of(ops.convert_to_numpy(compactor.kernel))
    np.testing.assert_allclose(optimizer.squared_changes(compactor.kernel), expected, rtol=2e-4)


def test_what_was_seen_of_a_column_outlives_its_mask():
    model, compactor, optimizer, x, target = make(keras.optimizers.SGD(RATE), mask=(1, 1, 1, 1))
    train_step(model, optimizer, x, target)
    worth = optimizer.squared_changes(compactor.kernel)
    norms = compactor.column_norms()
    assert (worth > 0).all()
    compactor.keep_mask.assign(np.array([True, False, True, True]))
    optimizer.forget(compactor.kernel, np.array([0, norms[1] / 4, 0, 0]))
    for left in (3 / 4, 2 / 4):  # it is worth less as it is forgotten, by its size alone
        train_step(model, optimizer, x, target)
        np.testing.assert_allclose(
            optimizer.squared_changes(compactor.kernel)[1], worth[1] * left**2, rtol=1e-4
        )


@pytest.mark.parametrize("scale", SCALES)
def test_what_a_column_is_worth_depends_on_no_scale_or_accumulation(scale):
    """Two batches as one update of their mean gradient, which the loss scale does not multiply."""
    make_optimizer, steps = SCALES[scale]
    inputs = keras.Input((3,))
    compactor = Compactor(name="compactor")
    model = keras.Model(inputs, compactor(inputs))
    optimizer = make_optimizer(0.0)
    inner = optimizer.inner_optimizer if scale == "scaled from outside" else optimizer
    penalty = PenaltyOptimizer(inner)
    if scale == "scaled from outside":
        optimizer.inner_optimizer = penalty
    else:
        optimizer = penalty
    model.compile(optimizer, "mse")
    generator = np.random.default_rng(5)
    watcher = Watcher(3)
    for _ in range(3):
        gradients = []
        for _ in range(steps):
            x, target = (generator.normal(size=(4, 3)).astype("float32") for _ in range(2))
            gradients.append(x.T @ (x - target) * 2 / target.size)
            model.train_on_batch(x, target)
        watcher.step(np.mean(gradients, axis=0), np.eye(3))
    np.testing.assert_allclose(
        penalty.squared_changes(compactor.kernel), watcher.of(np.eye(3)), rtol=1e-4
    )
