"""wrap, fit and finalize in every number format, compiled or not, with accumulated gradients."""

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.schedules import PlannedSchedule
from resrep_keras.optimizers.wrapper import find_wrapper
from tests import helpers, zoo
from tests.conditions.training import (
    assert_same_training,
    check_target_met,
    fit,
    loss,
    run,
    wrapped,
)
from tests.updates import RATE, Oracle, make, numpy_gradient, train_step

# --- number formats -------------------------------------------------------------------------------

POLICIES = ["mixed_float16", "mixed_bfloat16", "float64", "float16", "bfloat16"]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("policy", POLICIES, indirect=True)
def test_the_target_is_met_in_every_number_format(policy):
    model = wrapped(keras.optimizers.Adam(1e-3))
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    fit(model)
    slim = check_target_met(model)
    assert slim.get_layer(index=1).compute_dtype == policy.removeprefix("mixed_")


# What one number of a format may be off by, times the operations that round on the way.
ROUNDING = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2, "float64": 1e-12}


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("policy", ROUNDING, indirect=True)
def test_the_update_equals_the_oracle_in_every_number_format(policy, rank):
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX computes in 32 bits unless told otherwise")
    model, compactor, optimizer, x, target = make(keras.optimizers.SGD(RATE), rank=rank)
    oracle = Oracle(ops.convert_to_numpy(compactor.kernel), compactor.keep_mask)
    for _ in range(2):
        gradient = numpy_gradient(model, compactor, x, target)
        oracle.step(gradient, rate=np.float32(RATE))
        train_step(model, optimizer, x, target)
        bound = ROUNDING[policy] * max(1.0, np.abs(gradient).max())
        np.testing.assert_allclose(
            ops.convert_to_numpy(compactor.kernel), oracle.kernel, rtol=0, atol=bound
        )


@pytest.mark.parametrize("policy", ["float16", "bfloat16"], indirect=True)
def test_compactors_forget_in_small_steps_where_all_else_has_16_bits(policy):
    """A thousandth of a column is less than half of what bfloat16 can tell apart from 1."""
    _, compactor, optimizer, _, _ = make(keras.optimizers.SGD(RATE), kernel=np.eye(4)[None, None])
    optimizer.forget(compactor.kernel, np.array([0, 1e-3, 0, 0]))
    optimizer.compactor_optimizer.apply([ops.zeros((1, 1, 4, 4))], [compactor.kernel])
    np.testing.assert_allclose(compactor.column_norms()[1], 0.999, rtol=1e-6)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_steps_that_overflow_count_for_the_plan(policy):
    model = wrapped(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**40)
    )
    fit(model, epochs=1 + 8, steps_per_epoch=4)
    optimizer = find_wrapper(model.optimizer)
    assert int(model.optimizer.iterations) < 36  # some of them overflowed
    assert int(optimizer.steps) == 36
    np.testing.assert_array_equal(optimizer.plan, [0, 36])
    check_target_met(model)


@pytest.mark.tensorflow_only
def test_the_loss_is_scaled_where_the_dense_model_was_made_for_it():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        dense = zoo.build("chain")
    finally:
        keras.config.set_dtype_policy("float32")
    model = resrep_keras.wrap(dense, ResRep(0.2))
    model.compile("sgd", loss())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_a_saved_run_goes_on_with_its_loss_scale_whatever_the_policy_is_then(policy, tmp_path):
    model = wrapped(keras.optimizers.Adam(1e-3))
    fit(model, epochs=2)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- compilation ----------------------------------------------------------------------------------


@pytest.mark.tensorflow_only
def test_xla_graph_and_eager_come_out_the_same():
    reference = run(jit_compile=False)
    check_target_met(reference)
    assert_same_training(reference, run(jit_compile=True))
    assert_same_training(reference, run(run_eagerly=True))


@pytest.mark.tensorflow_only
def test_several_steps_per_execution_select_the_same():
    # Selections after steps 2 and 4, which are ends of executions of 2 steps.
    schedule = PlannedSchedule(warmup=0.1, selection_end=0.2, forgetting=0.1, selections=2)
    method = ResRep(schedule=schedule)
    reference = run(method=method)
    assert_same_training(reference, run(method=method, steps_per_execution=2))
    check_target_met(reference)


def test_what_is_selected_late_in_an_execution_is_forgotten_in_time():
    # The last selection is due after step 15 and made after step 16; zero is due after step 20.
    schedule = PlannedSchedule(warmup=0.1, selection_end=0.75, forgetting=0.25, selections=3)
    model = run(method=ResRep(schedule=schedule), steps_per_execution=4)
    check_target_met(model)


# --- gradient accumulation ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "epochs"), [(4, 5), pytest.param(3, 5, marks=pytest.mark.slow), (7, 9)]
)
def test_the_target_is_met_with_accumulated_gradients(steps, epochs):
    inner = keras.optimizers.Adam(1e-3, gradient_accumulation_steps=steps)
    model = wrapped(inner)
    fit(model, epochs)
    optimizer = find_wrapper(model.optimizer)
    assert int(optimizer.steps) == 4 * epochs
    assert int(inner.iterations) == 4 * epochs // steps
    check_target_met(model)


@pytest.mark.tensorflow_only
def test_a_plan_counts_steps_and_columns_shrink_by_updates():
    # The selection is made before step 1; 40 % of 40 steps are 16, in which 4 updates fall.
    schedule = PlannedSchedule(warmup=0.0, selection_end=0.1, forgetting=0.4, selections=1)
    inner = keras.optimizers.SGD(1e-4, gradient_accumulation_steps=4)
    # By norms, which can be asked before the first update.
    model = wrapped(inner, ResRep(schedule=schedule, score="norm"))
    norms = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            layer = helpers.compactors(model)[0]
            norms.append(layer.column_norms()[~ops.convert_to_numpy(layer.keep_mask)])

    fit(model, epochs=10, callbacks=[Watch()])
    worst = [found.max() for found in norms if found.size]
    np.testing.assert_allclose(worst, [0.75, 0.5, 0.25, *[0.0] * 7], atol=1e-2)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    ("score", "text"),
    [
        ("fisher", r"accumulated over 64 steps, and no update comes before .*, after step 5"),
        ("norm", r"over 64 steps, and no update comes .* after step 5, and the end, .* 20"),
    ],
)
def test_a_run_without_an_update_is_refused_before_the_first_step(score, text):
    inner = keras.optimizers.SGD(0.01, gradient_accumulation_steps=64)
    model = wrapped(inner, ResRep(score=score))
    before = model.get_weights()
    with pytest.raises(ValueError, match=text):
        fit(model)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(("steps", "fall"), [(None, "0.04"), (4, "0.01")])
def test_the_budget_of_the_paper_counts_updates(steps, fall):
    """20 steps of rate 0.2 at strength 1e-3 and momentum 0.9: 20 * 0.2 * 1e-3 / 0.1 = 0.04."""
    method = ResRep.paper(penalty_strength=1e-3, momentum=0.9, target_reduction=0.01)
    method.schedule.warmup_epochs, method.schedule.interval = 0, 1
    method.schedule.channels_per_selection = 100
    inner = keras.optimizers.SGD(0.2, gradient_accumulation_steps=steps)
    model = wrapped(inner, method)
    # The first selection comes after step 1: 19 steps are left.
    fall = f"{19 * float(fall) / 20:.3g}"
    with pytest.raises(ValueError, match=f"could shrink by {fall} of the 1"):
        fit(model)
