"""Weights of samples, regularizers, loops of one's own, changing rates, NaN."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.schedules import PlannedSchedule
from tests import helpers, zoo
from tests.conditions.training import (
    assert_same_training,
    check_target_met,
    data,
    fit,
    kernels,
    loss,
    run,
    wrapped,
)

# --- weights and regularizers ---------------------------------------------------------------------


def one_step(**weights):
    """What one step without momentum or penalty adds to compactor kernels."""
    keras.utils.set_random_seed(0)
    model = wrapped(
        keras.optimizers.SGD(0.1), ResRep(penalty_strength=0.0, momentum=0.0, compactor_rate=1)
    )
    before = kernels(model)
    model.train_on_batch(*data(16), **weights)
    return [new - old for old, new in zip(before, kernels(model))]


THREE = [{"sample_weight": np.full(16, 3.0)}, {"class_weight": dict.fromkeys(range(3), 3.0)}]


@pytest.mark.parametrize("weights", THREE, ids=["sample_weight", "class_weight"])
def test_the_gradient_of_compactors_scales_as_the_loss_does(weights):
    for plain, weighted in zip(one_step(), one_step(**weights), strict=True):
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


# --- loops and rates ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "execution",
    ["train_on_batch", pytest.param("custom", marks=pytest.mark.tensorflow_only)],
)
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

    with tf.GradientTape() as recording:
        value = loss()(y, model(x, training=True))
    gradients = recording.gradient(value, model.trainable_variables)
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
    with pytest.raises(ValueError, match=r"has diverged at step 2: 'conv2d.* hold NaN"):
        model.fit(x, y, batch_size=16, epochs=5, verbose=0, shuffle=False)


@pytest.mark.tensorflow_only
def test_a_loss_that_becomes_nan_after_the_last_selection_is_told_by_finalize():
    model = run()
    helpers.compactors(model)[0].kernel.assign(np.full((1, 1, 6, 6), np.nan))
    with pytest.raises(ValueError, match=r"The training has diverged: .* hold NaN"):
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


@pytest.mark.tensorflow_only
def test_an_optimizer_that_forgets_nothing_is_refused():
    model = wrapped()
    model.optimizer = keras.optimizers.Adam()
    callbacks = keras.callbacks.CallbackList(
        [resrep_keras.PruningCallback()], model=model, epochs=5, steps=4
    )
    callbacks.on_train_begin()
    with pytest.raises(ValueError, match=r"not trained by a PenaltyOptimizer.*method\.optimizer\("):
        callbacks.on_epoch_begin(0)
