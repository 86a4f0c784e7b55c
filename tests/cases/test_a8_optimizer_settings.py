"""Whatever the user sets on the optimizer of a wrapped model holds for the user's own optimizer."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer
from resrep_keras.optimizers.transfer import successor
from resrep_keras.optimizers.wrapper import OptimizerWrapper, find_wrapper
from tests import helpers, zoo
from tests.optimizer_kinds import KINDS

RATE = 0.01
SETTINGS = {
    "weight_decay": 0.3,
    "clipnorm": 1e-3,
    "clipvalue": 1e-4,
    "global_clipnorm": 1e-3,
    "gradient_accumulation_steps": 2,
    "loss_scale_factor": 8.0,
    "learning_rate": 0.003,
}
WRAPPERS = [
    OptimizerWrapper,
    resrep_keras.PenaltyOptimizer,
    FrozenCompactorsOptimizer,
]


def bias_after(optimizer, set_up):
    """A bias of ones after 20 steps without a gradient."""
    bias = keras.Variable(np.ones(3), name="bias")
    set_up(optimizer, bias)
    optimizer.build([bias])
    for _ in range(20):
        optimizer.apply([ops.zeros((3,))], [bias])
    return ops.convert_to_numpy(bias)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    "set_up",
    [
        lambda optimizer, bias: optimizer.exclude_from_weight_decay(var_names=["bias"]),
        lambda optimizer, bias: optimizer.exclude_from_weight_decay(var_list=[bias]),
    ],
)
def test_what_is_excluded_does_not_decay(wrapper, set_up):
    def adamw():
        return keras.optimizers.AdamW(RATE, weight_decay=0.5)

    assert bias_after(wrapper(adamw()), set_up).tolist() == [1.0] * 3
    decayed = bias_after(wrapper(adamw()), lambda *_: None)
    np.testing.assert_allclose(decayed, (1 - RATE * 0.5) ** 20, rtol=1e-5)


def mlp():
    inputs = keras.Input((5,))
    x = layers.Dense(8, use_bias=False, name="first")(inputs)  # a bias before it would be noise
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Dense(6, activation="tanh", name="second")(x)
    return zoo.randomise(keras.Model(inputs, layers.Dense(2, name="top")(x)))


def batches(steps):
    generator = np.random.default_rng(0)
    for _ in range(steps):
        yield (
            generator.normal(size=(8, 5)).astype("float32"),
            generator.normal(size=(8, 2)).astype("float32"),
        )


def held(dense, method=None):
    """A wrapped model whose compactors no step moves: masked, and without a penalty."""
    method = method or resrep_keras.ResRep(0.3, penalty_strength=0.0)
    wrapped = resrep_keras.wrap(dense, method)
    for layer in helpers.compactors(wrapped):
        layer.keep_mask.assign(np.zeros(layer.keep_mask.shape, bool))
    return wrapped


def trained(model, optimizer, set_up=lambda optimizer: None, steps=4):
    """``{path: value}`` of the variables after some steps."""
    model.compile(optimizer, "mse", run_eagerly=True)
    set_up(model.optimizer)
    for x, y in batches(steps):
        model.train_on_batch(x, y)
    return {v.path: ops.convert_to_numpy(v) for v in model.variables}


def assert_the_same_run(make, set_up=lambda optimizer: None, method=None):
    plain = trained(mlp(), make(), set_up)
    wrapped = trained(held(mlp(), method), make(), set_up)
    start = {v.path: ops.convert_to_numpy(v) for v in mlp().variables}
    assert set(plain) <= set(wrapped)
    assert any(np.abs(plain[path] - start[path]).max() > 0 for path in plain)
    for path, value in plain.items():
        np.testing.assert_allclose(wrapped[path], value, rtol=2e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_optimizer_trains_the_wrapped_model_as_the_dense_one(kind):
    assert_the_same_run(KINDS[kind])


@pytest.mark.parametrize("name", sorted(SETTINGS))
@pytest.mark.parametrize("method", [None, resrep_keras.TaylorPruning(0.3)], ids=["penalty", "held"])
def test_a_setting_made_after_compile_holds(name, method):
    def set_up(optimizer):
        setattr(optimizer, name, SETTINGS[name])
        assert float(ops.convert_to_numpy(getattr(optimizer, name))) == pytest.approx(
            SETTINGS[name]
        )

    assert_the_same_run(lambda: keras.optimizers.AdamW(RATE), set_up, method)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_setting_reaches_the_inner_optimizer_and_the_config(name):
    wrapper = resrep_keras.PenaltyOptimizer(keras.optimizers.AdamW(RATE))
    setattr(wrapper, name, SETTINGS[name])
    again = type(wrapper).from_config(wrapper.get_config())
    for optimizer in (wrapper.inner_optimizer, again, again.inner_optimizer):
        value = float(ops.convert_to_numpy(getattr(optimizer, name)))
        assert value == pytest.approx(SETTINGS[name])


def test_excluded_before_compile():
    def make():
        optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.9)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"])
        return optimizer

    assert_the_same_run(make)


def test_excluded_after_compile():
    assert_the_same_run(
        lambda: keras.optimizers.AdamW(RATE, weight_decay=0.9),
        lambda optimizer: optimizer.exclude_from_weight_decay(var_names=["bias", "gamma"]),
    )


@pytest.mark.tensorflow_only  # others step within fit only
def test_a_loss_scale_around_it():
    assert_the_same_run(
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(RATE, clipnorm=1e-3))
    )


def test_accumulation_set_after_compile_holds_for_compactors():
    model = resrep_keras.wrap(mlp(), resrep_keras.ResRep(0.3))
    model.compile(keras.optimizers.SGD(RATE), "mse", run_eagerly=True)
    model.optimizer.gradient_accumulation_steps = 3
    kernel = helpers.compactors(model)[0].kernel
    seen = [ops.convert_to_numpy(kernel)]
    for x, y in batches(3):
        model.train_on_batch(x, y)
        seen.append(ops.convert_to_numpy(kernel))
    moved = [bool(np.abs(after - before).max() > 0) for before, after in itertools.pairwise(seen)]
    assert moved == [False, False, True]
    assert find_wrapper(model.optimizer).steps_per_update == 3


def test_averages_asked_for_after_compile_are_refused():
    model = resrep_keras.wrap(mlp(), resrep_keras.ResRep(0.3))
    model.compile(keras.optimizers.SGD(RATE), "mse", run_eagerly=True)
    model.optimizer.use_ema = True
    x, y = next(batches(1))
    with pytest.raises(ValueError, match="use_ema=True, whose running average"):
        model.fit(x, y, epochs=5, verbose=0)


def test_averages_that_are_allowed_take_the_variables_place():
    def run(model):
        model.compile(keras.optimizers.SGD(RATE, momentum=0.9), "mse", run_eagerly=True)
        model.optimizer.use_ema, model.optimizer.ema_momentum = True, 0.5
        for x, y in batches(4):
            model.train_on_batch(x, y)
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return {v.path: ops.convert_to_numpy(v) for v in model.variables}

    plain, wrapped = run(mlp()), run(held(mlp(), resrep_keras.TaylorPruning(0.3)))
    for path, value in plain.items():
        np.testing.assert_allclose(wrapped[path], value, rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("scaled", [False, True])
def test_wrap_takes_over_what_the_dense_model_excludes(scaled):
    dense = mlp()
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(
        var_list=[dense.get_layer("first").kernel], var_names=["gamma"]
    )
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    dense.compile(optimizer, "mse")
    wrapped = resrep_keras.wrap(dense)
    wrapper = find_wrapper(wrapped.optimizer)
    kept = [wrapped.get_layer("first").kernel, wrapped.get_layer("norm").gamma]
    others = [wrapped.get_layer("second").kernel]
    before = [ops.convert_to_numpy(v) for v in kept + others]
    variables = [v for v in wrapped.trainable_variables]
    wrapper.apply([ops.zeros(v.shape) for v in variables], variables)
    after = [ops.convert_to_numpy(v) for v in kept + others]
    assert [bool((a == b).all()) for a, b in zip(before, after)] == [True, True, False]


def test_a_narrower_model_goes_on_with_what_is_excluded():
    def variables(width):
        return [keras.Variable(np.ones(width), name=name) for name in ("kernel", "scale")]

    old, new = variables(4), variables(2)
    optimizer = resrep_keras.PenaltyOptimizer(keras.optimizers.AdamW(RATE, weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_list=[old[1]])
    optimizer.build(old)
    fresh = successor(optimizer, new, old)
    fresh.apply([ops.zeros(v.shape) for v in new], new)
    kernel, scale = (ops.convert_to_numpy(v) for v in new)
    np.testing.assert_allclose(kernel, 1 - RATE * 0.5, rtol=1e-6)
    assert scale.tolist() == [1.0, 1.0]
