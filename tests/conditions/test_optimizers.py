"""Every optimizer of Keras around compactors: their update is that of the NumPy oracle."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras import PenaltyOptimizer
from tests import zoo
from tests.optimizer_kinds import KINDS, multi
from tests.updates import (
    INNER,
    MOMENTUM,
    RATE,
    STRENGTH,
    Oracle,
    apply,
    gradients_like,
    make,
    train_step,
)

DECAYS_AND_CLIPS = {
    **INNER,
    "adamw_decay": lambda: keras.optimizers.AdamW(RATE, weight_decay=0.9),
    "adam_global_clipnorm": lambda: keras.optimizers.Adam(RATE, global_clipnorm=1e-5),
    "lion_decay": lambda: keras.optimizers.Lion(RATE, weight_decay=0.5, clipnorm=1e-3),
}
has_multi = pytest.mark.skipif("MultiOptimizer" not in KINDS, reason="not in this Keras")


def test_the_well_known_optimizers_are_found():
    assert {"SGD", "RMSprop", "Adam", "AdamW", "Adafactor", "Nadam", "Lamb"} <= set(KINDS)
    assert len(KINDS) >= 13


def two_updates(inner, scaled=False):
    """The compactor after two updates, one column of it being forgotten, and what it began with."""
    model, compactor, optimizer, _, _ = make(inner)
    hidden = model.get_layer("hidden")
    before = [ops.convert_to_numpy(v) for v in (compactor.kernel, hidden.kernel)]
    forgotten = compactor.column_norms()[1] / 4
    outer, scale = optimizer, 1.0
    if scaled:
        outer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=2.0**12)
        outer.build(model.trainable_variables)
        scale = 2.0**12
    optimizer.forget(compactor.kernel, np.array([0, forgotten, 0, 0]))
    for seed in range(2):
        gradients = gradients_like(model.trainable_variables, seed)
        apply(outer, [scale * gradient for gradient in gradients], model.trainable_variables)
    assert int(optimizer.steps) == 2
    assert np.abs(ops.convert_to_numpy(hidden.kernel) - before[1]).max() > 0
    return ops.convert_to_numpy(compactor.kernel), before[0], model


def expected(kernel, model):
    """The oracle; column 1 shrinks to half in two steps of a quarter."""
    oracle = Oracle(kernel, np.ones(4))
    for seed in range(2):
        position = [v.path for v in model.trainable_variables].index("compactor/kernel")
        oracle.step(ops.convert_to_numpy(gradients_like(model.trainable_variables, seed)[position]))
    oracle.kernel[..., 1] = kernel[..., 1] / 2
    return oracle.kernel


@functools.cache
def reference():
    return two_updates(keras.optimizers.SGD(RATE))[0]


@pytest.mark.parametrize("kind", [*KINDS, *DECAYS_AND_CLIPS])
def test_compactors_go_by_the_oracle_under_every_optimizer(kind):
    after, before, model = two_updates({**KINDS, **DECAYS_AND_CLIPS}[kind]())
    np.testing.assert_allclose(after, expected(before, model), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after, reference())


@pytest.mark.parametrize("kind", KINDS)
def test_compactors_go_by_the_oracle_under_a_loss_scale(kind):
    after, before, model = two_updates(KINDS[kind](), scaled=True)
    np.testing.assert_allclose(after, expected(before, model), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(after, reference(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_is_saved_and_goes_on_where_it_was(kind, tmp_path):
    model, _, optimizer, x, target = make(KINDS[kind]())
    model.compile(optimizer, "mse")
    train_step(model, optimizer, x, target)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    first, second = optimizer.get_config(), loaded.optimizer.get_config()
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    for each in (model, loaded):
        gradients = gradients_like(each.trainable_variables, 3)
        apply(each.optimizer, gradients, each.trainable_variables)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.tensorflow_only
@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_meets_the_target(kind):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 8, 8, 3)).astype("float32")
    y = generator.integers(0, 3, 64)
    model = resrep_keras.wrap(zoo.build("residual"))
    inner = KINDS[kind]()
    for part in getattr(inner, "optimizers", [inner]):
        part.learning_rate = 1e-3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(inner, loss)
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    assert resrep_keras.finalize(model, strict=True).certificate.macs_left <= 0.5


# --- learning rates -------------------------------------------------------------------------------


@has_multi
def test_compactors_go_by_the_rate_of_the_default_optimizer_of_several():
    optimizer = PenaltyOptimizer(multi(gradient_accumulation_steps=3))
    assert optimizer.steps_per_update == 3
    optimizer.inner_optimizer.optimizers[-1].learning_rate = 0.25
    assert float(ops.convert_to_numpy(optimizer.compactor_optimizer.learning_rate)) == 0.25


def test_a_rate_that_a_callback_changes_is_used_at_once():
    model, compactor, optimizer, _, _ = make(keras.optimizers.Adam(RATE))
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), np.ones(4))
    position = [v.path for v in model.trainable_variables].index("compactor/kernel")
    for seed, rate in enumerate([0.1, 0.1, 0.02, 0.0, 0.3]):
        optimizer.learning_rate = rate
        gradients = gradients_like(model.trainable_variables, seed)
        oracle.step(ops.convert_to_numpy(gradients[position]), rate=rate)
        apply(optimizer, gradients, model.trainable_variables)
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=1e-5, atol=1e-6
    )


# --- gradients ------------------------------------------------------------------------------------


def test_a_fixed_loss_scale_is_taken_out_once():
    inner = keras.optimizers.SGD(RATE, loss_scale_factor=8.0)
    model, compactor, optimizer, _, _ = make(inner)
    start = ops.convert_to_numpy(compactor.kernel)
    assert float(ops.convert_to_numpy(optimizer.scale_loss(ops.convert_to_tensor(1.0)))) == 8.0
    gradients = [8.0 * g for g in gradients_like(model.trainable_variables, 0)]
    apply(optimizer, gradients, model.trainable_variables)
    oracle = Oracle(start, np.ones(4))
    position = [v.path for v in model.trainable_variables].index("compactor/kernel")
    oracle.step(ops.convert_to_numpy(gradients[position]) / 8)
    np.testing.assert_allclose(ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=1e-5)


def test_a_dynamic_loss_scale_takes_the_place_of_a_fixed_one():
    inner = keras.optimizers.SGD(RATE, loss_scale_factor=8.0)
    optimizer = PenaltyOptimizer(inner)
    keras.optimizers.LossScaleOptimizer(optimizer)
    assert optimizer.loss_scale_factor is None
    assert optimizer.compactor_optimizer.loss_scale_factor is None
    assert inner.loss_scale_factor is None


def test_an_overflow_leaves_everything_as_it_was():
    model, compactor, optimizer, _, _ = make(keras.optimizers.Adam(RATE))
    outer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    outer.build(model.trainable_variables)
    optimizer.forget(compactor.kernel, np.array([0, 0.1, 0, 0]))
    apply(outer, gradients_like(model.trainable_variables, 0), model.trainable_variables)
    held = [*model.variables, *optimizer.variables]
    before = [ops.convert_to_numpy(variable) for variable in held]
    for bad in (np.inf, np.nan):
        gradients = gradients_like(model.trainable_variables, 1)
        gradients[0] = gradients[0] * bad
        apply(outer, gradients, model.trainable_variables)
    for old, variable in zip(before, held):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    assert int(optimizer.steps) == 1
    assert float(ops.convert_to_numpy(outer.dynamic_scale)) == 2.0


def accumulated(model, optimizer, updates, steps):
    """Micro-steps on random gradients; the mean gradient of the compactor for each update."""
    variables = model.trainable_variables
    position = [variable.path for variable in variables].index("compactor/kernel")
    for update in range(updates):
        parts = [gradients_like(variables, steps * update + step) for step in range(steps)]
        for gradients in parts:
            apply(optimizer, gradients, variables)
        yield np.mean([ops.convert_to_numpy(gradients[position]) for gradients in parts], axis=0)


@pytest.mark.parametrize("clip", [{}, {"global_clipnorm": 1e-3}], ids=["plain", "clipped"])
def test_accumulated_gradients_make_the_update_of_one_big_batch(clip):
    inner = keras.optimizers.Adam(RATE, gradient_accumulation_steps=4, **clip)
    model, compactor, optimizer, _, _ = make(inner)
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), np.ones(4))
    for gradient in accumulated(model, optimizer, updates=3, steps=4):
        oracle.step(gradient)
        np.testing.assert_allclose(
            ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=1e-5, atol=1e-6
        )
    assert int(optimizer.steps) == 12
    assert optimizer.steps_per_update == 4


def test_columns_shrink_once_an_update_not_once_a_micro_step():
    inner = keras.optimizers.SGD(RATE, gradient_accumulation_steps=4)
    model, compactor, optimizer, _, _ = make(inner)
    norm = compactor.column_norms()[1]
    optimizer.forget(compactor.kernel, np.array([0, norm / 3, 0, 0]))
    for update, _ in enumerate(accumulated(model, optimizer, updates=4, steps=4), start=1):
        left = max(0.0, 1 - update / 3)
        np.testing.assert_allclose(compactor.column_norms()[1], left * norm, atol=1e-5)
    assert compactor.column_norms()[1] == 0


def test_a_compactor_without_a_gradient_is_forgotten_all_the_same():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX gives zeros")
    model, compactor, optimizer, _, _ = make(keras.optimizers.SGD(RATE))
    kernel = ops.convert_to_numpy(compactor.kernel)
    optimizer.forget(compactor.kernel, np.array([0, 0.1, 0, 0]))
    gradients = [
        None if v.path == "compactor/kernel" else g
        for v, g in zip(
            model.trainable_variables, gradients_like(model.trainable_variables, 0), strict=True
        )
    ]
    apply(optimizer, gradients, model.trainable_variables)
    oracle = Oracle(kernel, np.ones(4), STRENGTH, MOMENTUM)
    oracle.step(np.zeros_like(kernel))
    norm = np.sqrt((kernel[..., 1] ** 2).sum())
    oracle.kernel[..., 1] = kernel[..., 1] * (1 - 0.1 / norm)
    np.testing.assert_allclose(
        ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=1e-5, atol=1e-6
    )


# --- refused in words -----------------------------------------------------------------------------


def average(**kwargs):
    return keras.optimizers.SGD(0.1, use_ema=True, **kwargs)


@pytest.mark.parametrize(
    "optimizer",
    [
        average,
        lambda: keras.optimizers.LossScaleOptimizer(average()),
        pytest.param(lambda: multi(use_ema=True), marks=has_multi),
    ],
    ids=["plain", "loss scale", "one of several"],
)
def test_an_average_of_weights_is_refused_when_a_wrapped_model_is_compiled(optimizer):
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(0.2))
    with pytest.raises(ValueError, match=r"has use_ema=True.*Set use_ema=False while pruning"):
        model.compile(optimizer(), "mse")


def test_an_average_of_weights_of_the_dense_model_is_not_taken_over():
    dense = zoo.build("chain")
    dense.compile(average(), "mse")
    with pytest.warns(UserWarning, match=r"Set use_ema=False.*call compile\(\) on the wrapped"):
        model = resrep_keras.wrap(dense, resrep_keras.ResRep(0.2))
    assert not model.compiled


def test_a_loss_scale_inside_is_refused():
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE))
    with pytest.raises(TypeError, match=r"LossScaleOptimizer\(PenaltyOptimizer\(optimizer\)\)"):
        PenaltyOptimizer(inner)


@has_multi
def test_a_choice_of_optimizers_by_a_function_is_refused():
    inner = keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD(RATE))
    with pytest.raises(ValueError, match="Give it an OptimizerMap with a default optimizer"):
        PenaltyOptimizer(inner)
