"""One task after the other: what is trained, what is kept, and what is told."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import EWC, MAS, ANPyC, FineTuning, SynapticIntelligence, end_task, task_model
from tests.methods.consolidation import nets

METHODS = {
    "FineTuning": FineTuning,
    "EWC": lambda: EWC(1.0, samples=20),
    "MAS": lambda: MAS(0.1, samples=20),
    "SynapticIntelligence": SynapticIntelligence,
    "ANPyC": lambda: ANPyC(0.01, initial_percent=None),
    "ANPyC that prunes": lambda: ANPyC(0.01, initial_percent=10, retrain_epochs=1),
}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path], err_msg=path)


def assert_close(first, second):
    for path, value in first.items():
        np.testing.assert_allclose(value, second[path], atol=1e-5, err_msg=path)


def state_of(model):
    """All weights, and what the optimizer holds, whatever it is called."""
    found = {n: ops.convert_to_numpy(v) for n, v in enumerate(model.optimizer.variables)}
    return {**nets.weights_of(model), **found}


# --- what is trained ------------------------------------------------------------------------------


@each_method
def test_each_task_trains_the_trunk_and_its_own_head(make):
    model = nets.wrapped(make(), nets.dense_model(2))
    for task in range(2):
        before = nets.weights_of(model)
        nets.fit(model, task, epochs=1)
        after = nets.weights_of(model)
        moved = {path for path in before if (before[path] != after[path]).any()}
        heads = {path for path in moved if path.startswith("head")}
        assert heads == {f"head_{task}/kernel", f"head_{task}/bias"}
        assert {"first/kernel", "first/bias", "second/kernel", "second/bias"} <= moved
        end_task(model, *nets.data(task))
        np.testing.assert_array_equal(
            nets.importance_of(model)["first/kernel"].any(), make is not FineTuning
        )


def test_outputs_are_those_of_the_current_task_and_behind_the_last_those_of_the_last():
    model = nets.wrapped(FineTuning(), nets.dense_model(2))
    x, y = nets.data()
    for task in (0, 1, 1):
        expected = task_model(model, task).predict(x, verbose=0)
        np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
        # Compiled and eager sums round differently on JAX.
        np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, atol=1e-6)
        assert model.evaluate(x, y, verbose=0) == task_model(model, task).evaluate(x, y, verbose=0)
        if not model.optimizer.built or not model.optimizer.is_over:
            nets.fit(model, task)
            end_task(model, x, y)


def plain_sequence(dense, optimizer):
    """Fine-tuning in plain Keras: one model for each output, on the same layers."""
    optimizer.build(dense.trainable_variables)
    for task, output in enumerate(dense.output.values()):
        nets.fit(nets.compiled(keras.Model(dense.input, output), optimizer), task)
    return nets.weights_of(dense)


@pytest.mark.tensorflow_only  # on JAX, an optimizer of plain Keras serves one model only
@pytest.mark.parametrize("make", [FineTuning, lambda: ANPyC(0, initial_percent=None)])
def test_without_strength_and_pruning_it_is_fine_tuning_bit_for_bit(make):
    def dense():
        return nets.dense_model(2, kernel_regularizer=keras.regularizers.L2(1e-3))

    def optimizer():
        return keras.optimizers.Adam(0.01, weight_decay=1e-3)

    model = nets.wrapped(make(), dense(), optimizer())
    nets.learn(model, 2)
    assert_same(nets.weights_of(model), plain_sequence(dense(), optimizer()))


def test_a_huge_strength_freezes_the_trunk():
    """With `rate * 2 * strength * importance = 1`, each step begins at the reference again."""
    moved = {}
    for strength in (0, 1e6):
        rate = 0.1
        model = nets.wrapped(MAS(strength, samples=1), optimizer=keras.optimizers.SGD(rate))
        nets.fit(model)
        end_task(model, *nets.data())
        for each in model.optimizer.held:
            value = np.full(each.importance.shape, 1 / (2e6 * rate))
            each.importance.assign(value)
        before = nets.weights_of(model)
        nets.fit(model, 1, epochs=20)
        after = nets.weights_of(model)
        change = {path: np.abs(after[path] - before[path]).max() for path in before}
        moved[strength] = max(value for path, value in change.items() if "head" not in path)
        assert change["head_1/kernel"] > 0.05
    assert moved[1e6] < 0.05 < 0.3 < moved[0]


@pytest.mark.parametrize("make", [FineTuning, lambda: ANPyC(0.01, initial_percent=None)])
def test_what_is_frozen_stays_bit_equal(make):
    dense = nets.dense_model(2)
    dense.get_layer("first").trainable = False
    model = nets.wrapped(make(), dense, keras.optimizers.AdamW(0.01, weight_decay=0.1))
    before = nets.weights_of(model)
    nets.learn(model, 2)
    after = nets.weights_of(model)
    for path in ("first/kernel", "first/bias"):
        np.testing.assert_array_equal(before[path], after[path])
    assert "first/kernel" not in nets.importance_of(model)


@pytest.mark.parametrize("name", ["SynapticIntelligence", "ANPyC that prunes"])
def test_single_batches_train_as_fit_does(name):
    dense = nets.dense_model(2)
    fitted, batched = (nets.wrapped(METHODS[name](), dense) for _ in range(2))
    x, y = nets.data()
    for task in range(2):
        fitted.fit(x, y, batch_size=64, epochs=2, verbose=0, shuffle=False)  # sums round alike
        for _ in range(2):
            batched.train_on_batch(x, y)
        assert batched.predict_on_batch(x).shape == (64, 3)
        if task == 0:
            end_task(fitted, x, y, shuffle=False)
            end_task(batched, x, y, shuffle=False)
    assert_close(nets.weights_of(fitted), nets.weights_of(batched))


# --- what is kept ---------------------------------------------------------------------------------


def whole_run(method, dense, *, between=lambda model: model, **kwargs):
    model = nets.wrapped(method, dense, keras.optimizers.SGD(0.05, momentum=0.9))
    for task in range(2):
        nets.fit(model, task, **kwargs)
        model = between(model)
        end_task(model, *nets.data(task))
        model = between(model)
    return model


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", ["SynapticIntelligence", "ANPyC that prunes"])
def test_saved_and_loaded_anywhere_equals_uninterrupted(name, tmp_path):
    def revived(model):
        model.save(tmp_path / "model.keras")
        return keras.models.load_model(tmp_path / "model.keras")

    whole = whole_run(METHODS[name](), nets.dense_model(2))
    part = whole_run(METHODS[name](), nets.dense_model(2), between=revived)
    assert_same(state_of(whole), state_of(part))
    assert part.optimizer.is_over and list(part.output) == ["task_0", "task_1"]


@pytest.mark.tensorflow_only
def test_weights_of_another_task_bring_that_task_back(tmp_path):
    model = nets.wrapped(EWC(samples=5), nets.dense_model(2))
    x, _ = nets.data()
    nets.fit(model)
    end_task(model, *nets.data())
    expected = model.predict(x, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = nets.wrapped(EWC(samples=5), nets.dense_model(2))
    other.predict(x, verbose=0)  # traced for task 0
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.predict(x, verbose=0), expected)
    assert_same(state_of(other), state_of(model))


def test_compiled_anew_the_sequence_goes_on():
    model = nets.wrapped(EWC(1.0, samples=5))
    nets.fit(model)
    end_task(model, *nets.data())
    importance = nets.importance_of(model)
    nets.compiled(model, keras.optimizers.Adam(0.01))
    nets.fit(model, 1)
    assert model.optimizer.task_number == 1
    assert_same(nets.importance_of(model), importance)
    end_task(model, *nets.data(1))
    more = nets.importance_of(model)
    assert all((more[path] >= value).all() for path, value in importance.items())


class Kill(keras.callbacks.Callback):
    """Ends a run in the middle of an epoch, once."""

    def on_train_batch_end(self, batch, logs=None):
        if int(ops.convert_to_numpy(self.model.optimizer.steps)) == 8 + 6:  # of the second task
            raise KeyboardInterrupt


@pytest.mark.tensorflow_only
def test_a_killed_task_goes_on_from_its_last_epoch(tmp_path):
    whole = whole_run(ANPyC(0.01, initial_percent=None), nets.dense_model(2))
    first = nets.wrapped(
        ANPyC(0.01, initial_percent=None),
        nets.dense_model(2),
        keras.optimizers.SGD(0.05, momentum=0.9),
    )
    nets.fit(first)
    end_task(first, *nets.data())
    with pytest.raises(KeyboardInterrupt):
        nets.fit(first, 1, callbacks=[Kill(), resrep_keras.Backup(tmp_path / "backup")])
    # In another process: nothing is known but the backup.
    second = nets.wrapped(
        ANPyC(0.01, initial_percent=None),
        nets.dense_model(2),
        keras.optimizers.SGD(0.05, momentum=0.9),
    )
    second.predict(nets.data()[0], verbose=0)
    with pytest.warns(UserWarning, match=r"goes on with task 1.* given the data of task 1"):
        nets.fit(second, 1, callbacks=[resrep_keras.Backup(tmp_path / "backup")])
    end_task(second, *nets.data(1))
    assert_same(state_of(whole), state_of(second))


class KillWhileTrainedAnew(keras.callbacks.Callback):
    """Ends `end_task` in the second of its stages."""

    stages = 0

    def on_train_begin(self, logs=None):
        self.stages += 1

    def on_train_batch_end(self, batch, logs=None):
        if self.stages == 2 and batch == 1:
            raise KeyboardInterrupt


@pytest.mark.tensorflow_only
def test_a_task_that_is_killed_while_it_is_trained_anew_goes_on_behind_its_fit(tmp_path):
    def begun():
        method = ANPyC(0.01, initial_percent=20, retrain_epochs=2)  # stages of 10 and 20 percent
        return nets.wrapped(method, nets.dense_model(2), keras.optimizers.SGD(0.05, momentum=0.9))

    def learn(model, kill=()):
        folders = [tmp_path / f"task-{task}" for task in range(2)]
        backups = [resrep_keras.Backup(folder, delete_checkpoint=False) for folder in folders]
        for task in range(2):
            if kill is not None and any(later.epoch for later in backups[task + 1 :]):
                continue  # a later backup holds what this task has left
            nets.fit(model, task, callbacks=[backups[task]] if kill is not None else [])
            anew = {"batch_size": 16, "shuffle": False, "callbacks": list(kill or ())}
            end_task(model, *nets.data(task), **anew)

    whole, killed, other = begun(), begun(), begun()
    learn(whole, kill=None)
    with pytest.raises(KeyboardInterrupt):
        learn(killed, kill=[KillWhileTrainedAnew()])
    changed = nets.weights_of(killed)
    learn(other)  # as in another process: nothing is known but the backup
    assert any((changed[path] != value).any() for path, value in nets.weights_of(other).items())
    assert_same(state_of(whole), state_of(other))
    last = begun()
    learn(last)  # from the backup of the last task
    assert_same(state_of(whole), state_of(last))


@pytest.mark.parametrize("kind", [resrep_keras.Backup, keras.callbacks.BackupAndRestore])
def test_a_backup_of_one_stage_is_not_brought_back_into_another(kind, tmp_path):
    model = nets.wrapped(METHODS["ANPyC that prunes"](), nets.dense_model(2))
    nets.fit(model)
    before = state_of(model)
    for given in (kind(tmp_path / "backup"), [kind(tmp_path / "backup")]):
        with pytest.raises(ValueError, match=f"go on from no backup; got {kind.__name__}"):
            end_task(model, *nets.data(), callbacks=given)
    assert_same(before, state_of(model))


@each_method
def test_finalize_gives_all_heads_with_the_weights_that_were_trained(make):
    model = nets.wrapped(make(), nets.dense_model(2))
    nets.fit(model, epochs=1)
    end_task(model, *nets.data())
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.output_names == ["head_0", "head_1"] and list(slim.output) == ["task_0", "task_1"]
    assert type(slim) is type(keras.Model(slim.inputs, slim.outputs))
    assert_same(nets.weights_of(slim), nets.weights_of(model))


# --- models and data ------------------------------------------------------------------------------


def test_tasks_come_in_the_order_in_which_a_dict_was_written():
    model = nets.wrapped(FineTuning(), nets.dense_model(11))  # task_10 sorts before task_2
    for task in (2, 10):
        tensor = task_model(model, task).output
        assert tensor is model.output[f"task_{task}"]


def test_one_output_serves_all_tasks_and_a_head_may_be_left_free():
    model = nets.wrapped(ANPyC(0.01, initial_percent=None, heads=["head"]), nets.one_head())
    for task in range(3):
        nets.fit(model, task)
        end_task(model, *nets.data(task))
    assert model.optimizer.task_number == 3
    assert {each.variable.path for each in model.optimizer.held} == {"first/kernel", "first/bias"}
    x, _ = nets.data()
    np.testing.assert_array_equal(
        task_model(model, 0).predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_layers_with_a_state_and_losses_of_their_own():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = layers.Dense(6, activity_regularizer="l2")(inputs)
    x = layers.Dropout(0.3, seed=1)(layers.BatchNormalization()(x))
    dense = keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(3)(x)])
    model = nets.wrapped(ANPyC(0.01, initial_percent=10, retrain_epochs=1), dense)
    before = nets.weights_of(model)["batch_normalization/moving_mean"]
    nets.fit(model)
    after = nets.weights_of(model)["batch_normalization/moving_mean"]
    assert (before != after).all()
    end_task(model, *nets.data())
    measured = nets.weights_of(model)["batch_normalization/moving_mean"]
    nets.fit(model, 1)
    assert np.isfinite(model.get_weights()[0]).all()
    assert not set(nets.importance_of(model)) & {"batch_normalization/moving_mean"}
    assert (measured != nets.weights_of(model)["batch_normalization/moving_mean"]).all()


def test_what_was_trained_before_wrap_knows_a_task():
    model = nets.wrapped(EWC(samples=5), nets.dense_model(2))
    end_task(model, *nets.data())
    assert model.optimizer.task_number == 1 and model.optimizer.largest_importance() > 0


def test_a_head_that_is_frozen_is_a_task_too():
    dense = nets.dense_model(2)
    dense.get_layer("head_1").trainable = False
    model = nets.wrapped(FineTuning(), dense)
    end_task(model, *nets.data())
    before = nets.weights_of(model)
    nets.fit(model, 1, epochs=1)
    after = nets.weights_of(model)
    moved = {path for path in before if (before[path] != after[path]).any()}
    assert moved == {"first/kernel", "first/bias", "second/kernel", "second/bias"}


# --- what is told ---------------------------------------------------------------------------------


def test_behind_the_last_task_nothing_goes_on():
    model = nets.wrapped(FineTuning(), nets.dense_model(2))
    nets.learn(model, 2)
    with pytest.raises(ValueError, match=r"All 2 tasks of model .* have ended"):
        nets.fit(model)
    with pytest.raises(ValueError, match=r"All 2 tasks of model .* have ended"):
        end_task(model, *nets.data())


def test_models_without_tasks_are_refused():
    x, y = nets.data()
    for function in (lambda model: end_task(model, x, y), lambda model: task_model(model, 0)):
        with pytest.raises(TypeError, match=r"model to be a keras\.Model made by"):
            function("model")
        with pytest.raises(TypeError, match=r"holds no method\. Expected a model made by"):
            function(nets.dense_model())
        with pytest.raises(TypeError, match=r"wrapped with ANPyC, .* got one with GraNet"):
            function(resrep_keras.wrap(nets.dense_model(), resrep_keras.GraNet(0.5)))
    model = resrep_keras.wrap(nets.dense_model(), FineTuning())
    with pytest.raises(ValueError, match="is not compiled"):
        end_task(model, x, y)
    with pytest.raises(ValueError, match="task to be an int of 0 or more and of at most 2; got 3"):
        task_model(model, 3)


def test_an_optimizer_needs_the_model_whose_trunk_it_holds():
    for model in (None, nets.dense_model()):
        with pytest.raises(TypeError, match="model to be the wrapped model that MAS trains"):
            MAS().optimizer(keras.optimizers.SGD(), model)


def test_missing_labels_are_told_before_anything_is_done():
    for method, words in (
        (EWC(), "EWC measures importance by labels"),
        (ANPyC(retrain_epochs=1), "ANPyC trains anew where it frees weights"),
    ):
        model = nets.wrapped(method)
        model.optimizer.build(model.trainable_variables)
        before = state_of(model)
        with pytest.raises(ValueError, match=words):
            end_task(model, nets.data()[0])
        assert_same(before, state_of(model))


def test_importance_that_is_nan_is_told():
    model = nets.wrapped(MAS())
    model.optimizer.build(model.trainable_variables)
    x, y = nets.data()
    x[3] = np.nan
    with pytest.raises(ValueError, match="importance of variable 'first/kernel' is NaN"):
        end_task(model, x, y)
    assert model.optimizer.task_number == 0
