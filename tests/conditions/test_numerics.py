"""wrap, fit and finalize in every numeric condition of real training: the target is met, exactly."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.callbacks import find_penalty_optimizer
from resrep_keras.schedules import PlannedSchedule
from tests import helpers, zoo
from tests.test_penalty import RATE, Oracle, make, numpy_gradient, train_step


def data(size=64):
    generator = np.random.default_rng(0)
    return generator.normal(size=(size, 8, 8, 3)).astype("float32"), generator.integers(0, 3, size)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def wrapped(optimizer="sgd", method=None, name="residual", **kwargs):
    model = resrep_keras.wrap(zoo.build(name), method)
    model.compile(optimizer, loss(), **kwargs)
    return model


def fit(model, epochs=5, **kwargs):
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, **{"shuffle": False, **kwargs})


def masks(model):
    return [ops.convert_to_numpy(layer.keep_mask) for layer in helpers.compactors(model)]


def kernels(model):
    return [ops.convert_to_numpy(layer.kernel) for layer in helpers.compactors(model)]


def check_target_met(model):
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 0.5
    for layer in helpers.compactors(model):
        mask = ops.convert_to_numpy(layer.keep_mask)
        np.testing.assert_array_equal(layer.column_norms()[~mask], 0)
        assert np.isfinite(ops.convert_to_numpy(layer.kernel)).all()
    return slim


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


# --- number formats ----------------------------------------------------------------------------------

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
    optimizer = find_penalty_optimizer(model.optimizer)
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


# --- compilation --------------------------------------------------------------------------------------


def run(epochs=5, method=None, **kwargs):
    keras.utils.set_random_seed(0)
    model = wrapped(keras.optimizers.SGD(0.01, momentum=0.9), method, **kwargs)
    fit(model, epochs)
    return model


def assert_same_training(first, second, rtol=1e-4):
    for ours, theirs in zip(masks(first), masks(second), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(kernels(first), kernels(second), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-4)


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


@pytest.mark.tensorflow_only
def test_what_is_selected_late_in_an_execution_is_forgotten_in_time():
    # The last selection is due after step 15 and made after step 16; zero is due after step 20.
    schedule = PlannedSchedule(warmup=0.1, selection_end=0.75, forgetting=0.25, selections=3)
    model = run(method=ResRep(schedule=schedule), steps_per_execution=4)
    check_target_met(model)


# --- gradient accumulation ------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [5, 9])
def test_the_target_is_met_with_accumulated_gradients(epochs):
    inner = keras.optimizers.Adam(1e-3, gradient_accumulation_steps=4)
    model = wrapped(inner)
    fit(model, epochs)
    optimizer = find_penalty_optimizer(model.optimizer)
    assert int(optimizer.steps) == 4 * epochs
    assert int(inner.iterations) == epochs
    check_target_met(model)


@pytest.mark.tensorflow_only
def test_a_plan_counts_steps_and_columns_shrink_by_updates():
    # The selection is made before step 1; 40 % of 40 steps are 16, in which 4 updates fall.
    schedule = PlannedSchedule(warmup=0.0, selection_end=0.1, forgetting=0.4, selections=1)
    inner = keras.optimizers.SGD(1e-4, gradient_accumulation_steps=4)
    model = wrapped(inner, ResRep(schedule=schedule))
    norms = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            layer = helpers.compactors(model)[0]
            norms.append(layer.column_norms()[~ops.convert_to_numpy(layer.keep_mask)])

    fit(model, epochs=10, callbacks=[Watch()])
    worst = [found.max() for found in norms if found.size]
    np.testing.assert_allclose(worst, [0.75, 0.5, 0.25, *[0.0] * 7], atol=1e-2)


@pytest.mark.tensorflow_only
def test_a_run_without_an_update_is_refused_before_the_first_step():
    model = wrapped(keras.optimizers.SGD(0.01, gradient_accumulation_steps=64))
    before = model.get_weights()
    text = r"accumulated over 64 steps, and no update comes .* after step 5, and the end, .* 20"
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


# --- weights and regularizers ------------------------------------------------------------------------------


def one_step(**kwargs):
    """Compactor kernels before and after one step without momentum or penalty."""
    keras.utils.set_random_seed(0)
    model = wrapped(keras.optimizers.SGD(0.1), ResRep(penalty_strength=0.0, momentum=0.0))
    x, y = data(16)
    before = kernels(model)
    weights = kwargs.pop("sample_weight", None)
    if "class_weight" in kwargs:
        model.fit(x, y, batch_size=16, epochs=1, verbose=0, steps_per_epoch=2, **kwargs)
    model.train_on_batch(x, y, sample_weight=weights)
    return [new - old for old, new in zip(before, kernels(model))]


@pytest.mark.tensorflow_only
def test_the_gradient_of_compactors_scales_with_sample_weights():
    for plain, weighted in zip(one_step(), one_step(sample_weight=np.full(16, 3.0)), strict=True):
        assert np.abs(plain).max() > 1e-5
        np.testing.assert_allclose(weighted, 3.0 * plain, rtol=1e-3, atol=1e-6)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_weighted_training_meets_the_target(weights):
    value = np.linspace(0, 2, 64) if weights == "sample_weight" else {0: 0.0, 1: 1.0, 2: 5.0}
    model = wrapped("adam")
    fit(model, **{weights: value})
    check_target_met(model)


def regularized(strength):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for name in ("a", "b"):
        penalty = keras.regularizers.L2(strength) if strength else None
        x = layers.Conv2D(6, 3, activation="relu", kernel_regularizer=penalty, name=name)(x)
    dense = keras.Model(inputs, zoo.head(x))
    model = resrep_keras.wrap(dense, ResRep(0.3))
    model.compile(keras.optimizers.SGD(0.05), loss())
    return model


@pytest.mark.tensorflow_only
def test_a_regularizer_of_a_layer_does_not_touch_its_compactor():
    plain, decayed = regularized(0.0), regularized(10.0)
    assert all(layer.kernel.regularizer is None for layer in helpers.compactors(decayed))
    assert len(decayed.losses) == 2
    x, y = data(16)
    for model in (plain, decayed):
        model.train_on_batch(x, y)
    for ours, theirs in zip(kernels(plain), kernels(decayed), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.abs(plain.get_layer("a").kernel - decayed.get_layer("a").kernel).max() > 0.01


# --- loops and rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["train_on_batch", "custom"])
@pytest.mark.tensorflow_only
def test_a_loop_of_ones_own_comes_out_like_fit(execution):
    reference = run()
    keras.utils.set_random_seed(0)
    model = wrapped(keras.optimizers.SGD(0.01, momentum=0.9))
    pruning = resrep_keras.PruningCallback()
    callbacks = keras.callbacks.CallbackList([pruning], model=model, epochs=5, steps=4)
    x, y = data()
    callbacks.on_train_begin()
    for epoch in range(5):
        callbacks.on_epoch_begin(epoch)
        for batch in range(4):
            callbacks.on_train_batch_begin(batch)
            part = slice(16 * batch, 16 * batch + 16)
            if execution == "train_on_batch":
                model.train_on_batch(x[part], y[part])
            else:
                custom_step(model, x[part], y[part])
            callbacks.on_train_batch_end(batch)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    assert_same_training(reference, model)
    assert pruning.macs_left() == check_target_met(model).certificate.macs_left


def custom_step(model, x, y):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = loss()(y, model(x, training=True))
    gradients = tape.gradient(value, model.trainable_variables)
    model.optimizer.apply_gradients(zip(gradients, model.trainable_variables))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"], indirect=True)
def test_a_reduced_rate_is_used_at_once(policy):
    """The plateau is found after epoch 2; at rate 0, no compactor moves from then on."""
    schedule = PlannedSchedule(warmup=0.9, selection_end=0.94, forgetting=0.06, selections=1)
    model = wrapped(keras.optimizers.SGD(0.05), ResRep(schedule=schedule))
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(np.concatenate([kernel.ravel() for kernel in kernels(model)]))

    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.0, patience=1, min_delta=1e9)
    fit(model, callbacks=[plateau, Watch()])
    assert np.abs(seen[1] - seen[0]).max() > 1e-6
    np.testing.assert_array_equal(seen[1], seen[2])
    np.testing.assert_array_equal(seen[1], seen[3])


@pytest.mark.tensorflow_only
def test_a_loss_that_becomes_nan_is_told_at_the_next_selection():
    x, y = data()
    x[20:] = np.nan  # from the second batch on
    model = wrapped()
    with pytest.raises(ValueError, match=r"scores of layer 'conv2d.*' hold NaN.*has diverged"):
        model.fit(x, y, batch_size=16, epochs=5, verbose=0, shuffle=False)


@pytest.mark.tensorflow_only
def test_a_loss_that_becomes_nan_after_the_last_selection_is_told_by_finalize():
    model = run()
    helpers.compactors(model)[0].kernel.assign(np.full((1, 1, 6, 6), np.nan))
    with pytest.raises(ValueError, match="target is not met|differ by nan"):
        resrep_keras.finalize(model, strict=True)


@pytest.mark.tensorflow_only
def test_an_output_without_a_loss_does_not_keep_its_channels_from_being_forgotten():
    inputs = keras.Input((8, 8, 3))
    trained = zoo.head(zoo.conv_bn(inputs, 6))
    unused = zoo.head(zoo.conv_bn(inputs, 6))
    dense = keras.Model(inputs, [trained, unused])
    model = resrep_keras.wrap(zoo.randomise(dense))
    model.compile("sgd", [loss(), None])
    x, y = data()
    with pytest.warns(UserWarning, match="Gradients do not exist") as caught:
        model.fit(x, [y, y], batch_size=16, epochs=5, verbose=0)
    assert "compactor" not in "".join(str(warning.message) for warning in caught)
    check_target_met(model)
