"""A copy is compiled as its model: the same settings, losses and metrics, state of its own."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.keras_adapter import compile_arguments, decay_exclusions
from resrep_keras.optimizers.penalty import PenaltyOptimizer
from resrep_keras.training import compiling
from resrep_keras.training.compiling import compile_alike, compile_slim, training_kind
from tests import zoo

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.arange(32) % 3


def net(kind=keras.Model, name="net"):
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    return zoo.randomise(kind(inputs, layers.Dense(3, name="top")(hidden), name=name))


def logits_loss(y, outputs):
    return ops.mean(ops.square(ops.one_hot(y, 3) - outputs), -1)


def test_settings_are_those_of_now():
    model, copy = net(), net()
    model.compile(
        keras.optimizers.Adam(0.1, beta_1=0.8, clipnorm=2.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        loss_weights=[0.5],
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
        steps_per_execution=3,
        jit_compile=False,
    )
    model.optimizer.learning_rate = 0.025
    model.run_eagerly, model.steps_per_execution = True, 2
    compile_alike(model, copy)
    assert (copy.run_eagerly, copy.steps_per_execution, copy.jit_compile) == (True, 2, False)
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    assert copy.optimizer is not model.optimizer
    np.testing.assert_allclose(ops.convert_to_numpy(copy.optimizer.learning_rate), 0.025)
    weight = np.linspace(0, 1, 32)
    told = [m.evaluate(X, Y, sample_weight=weight, verbose=0) for m in (model, copy)]
    assert told[0] == told[1]


def test_losses_are_the_same_objects_and_metrics_have_a_state_of_their_own():
    class Odd(keras.losses.Loss):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor  # in no configuration

        def call(self, y, outputs):
            return self.factor * logits_loss(y, outputs)

    model, copy = net(), net()
    metric = keras.metrics.SparseTopKCategoricalAccuracy(k=2, name="two")
    model.compile("sgd", Odd(2.0), metrics=[metric, logits_loss])
    compile_alike(model, copy)
    assert copy.loss is model.loss
    there = compile_arguments(copy)["metrics"]
    assert there[0] is not metric and there[0].get_config() == metric.get_config()
    assert there[1] is logits_loss


def test_a_schedule_of_ones_own_and_a_function_are_the_same_and_begin_anew():
    class Half(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 ** (1 + ops.cast(step, "float32"))

        def get_config(self):
            return {}

    for rate in (Half(), lambda: 0.5):
        model, copy = net(), net()
        model.compile(keras.optimizers.SGD(rate), logits_loss)
        model.fit(X, Y, batch_size=16, verbose=0)
        compile_alike(model, copy)
        assert float(ops.convert_to_numpy(copy.optimizer.learning_rate)) == 0.5
        assert int(ops.convert_to_numpy(copy.optimizer.iterations)) == 0


@pytest.mark.parametrize("outside", [False, True], ids=["plain", "loss scale"])
def test_what_a_method_puts_around_the_optimizer_is_left_out(outside):
    class Mine(keras.optimizers.SGD):
        pass

    model, copy = net(), net()
    optimizer = PenaltyOptimizer(Mine(0.1, momentum=0.9))
    scaled = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
    model.compile(scaled if outside else optimizer, logits_loss)
    compile_alike(model, copy)
    found = copy.optimizer
    if outside:
        assert isinstance(found, keras.optimizers.LossScaleOptimizer)
        assert found.initial_scale == 64
        found = found.inner_optimizer
    assert type(found) is Mine and found.momentum == 0.9


def test_a_loss_that_is_not_scaled_stays_so():
    model, copy = net(), net()
    for each in (model, copy):
        each.dtype_policy = keras.DTypePolicy("mixed_float16")
    model.compile("sgd", logits_loss, auto_scale_loss=False)
    compile_alike(model, copy)
    assert not isinstance(copy.optimizer, keras.optimizers.LossScaleOptimizer)
    model.compile("sgd", logits_loss)
    compile_alike(model, copy)
    assert isinstance(copy.optimizer, keras.optimizers.LossScaleOptimizer)


def test_exclusions_from_weight_decay_hold_for_what_stays():
    model, copy = net(), net()
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay([model.get_layer("top").kernel], ["bias"])
    model.compile(optimizer, logits_loss)
    compile_alike(model, copy)
    listed, pattern = decay_exclusions(copy.optimizer, copy.trainable_variables)
    assert [v.path for v in listed] == ["top/kernel"] and pattern.pattern == "bias"


@pytest.mark.parametrize("way", ["finalize", "prune", "redesign"])
def test_exclusions_hold_in_nested_models(way):
    inner, inputs = net(), keras.Input((6,))
    dense = keras.Sequential([inputs, inner], name="outer")
    optimizer = keras.optimizers.AdamW(0.01)
    optimizer.exclude_from_weight_decay([inner.get_layer("top").kernel])
    dense.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    slim = made_by(way, dense)
    listed, _ = decay_exclusions(slim.optimizer, slim.trainable_variables)
    assert [v.path.split("/")[-2:] for v in listed] == [["top", "kernel"]]


def test_what_cannot_be_copied_is_told():
    class Metric(keras.metrics.Mean):
        def __init__(self, factor, name="odd"):
            super().__init__(name=name)

    model, copy = net(), net()
    model.compile("sgd", logits_loss, metrics=[Metric(2.0)])
    with pytest.warns(
        UserWarning, match=r"cannot be copied: its Metric .*'dtype'.*compile\(\) on the new model"
    ):
        compile_alike(model, copy)
    assert not copy.compiled


@pytest.mark.parametrize("part", ["metric", "optimizer"])
def test_whatever_a_users_object_raises_is_told_as_its_own_words(part):
    class Metric(keras.metrics.Mean):
        def get_config(self):
            raise KeyError("gone")

    class Optimizer(keras.optimizers.SGD):
        @classmethod
        def from_config(cls, config, custom_objects=None):
            raise AttributeError("lost")

    model, copy = net(), net()
    metrics = [Metric()] if part == "metric" else []
    model.compile(Optimizer() if part == "optimizer" else "sgd", logits_loss, metrics=metrics)
    words = {"metric": "its Metric raises KeyError", "optimizer": "its Optimizer raises Attribute"}
    with pytest.warns(UserWarning, match=f"cannot be copied: {words[part]}"):
        compile_alike(model, copy)
    assert not copy.compiled


def test_what_a_copy_refuses_is_told_as_its_refusal():
    model = net()
    model.compile(keras.optimizers.Adam(use_ema=True), logits_loss)
    with pytest.warns(UserWarning, match=r"in a way that its copy refuses: .*use_ema") as told:
        wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.4))
    assert not wrapped.compiled and "cannot be copied" not in str(told[0].message)


def test_an_error_of_ones_own_compile_is_told():
    class OwnCompile(keras.Model):
        def compile(self, *args, **kwargs):
            if kwargs.get("loss") is None:
                raise KeyError("a loss")
            super().compile(*args, **kwargs)

        def get_compile_config(self):
            return {"optimizer": "sgd"}

    model = net(OwnCompile)
    model.compile(optimizer="sgd", loss=logits_loss)
    with pytest.warns(UserWarning, match="methods of its own class, which raise .* KeyError"):
        wrapped = resrep_keras.wrap(model, resrep_keras.MagnitudePruning(0.4))
    assert not wrapped.compiled


@pytest.mark.parametrize("name", ["by_path", "copy_decay_exclusions", "_arguments"])
def test_an_error_of_the_library_is_none_of_the_users(name, monkeypatch):
    def fails(*_):
        raise AssertionError("of ours")

    monkeypatch.setattr(compiling, name, fails)
    model = net()
    model.compile("sgd", logits_loss)
    with pytest.raises(AssertionError, match="of ours"):
        compile_alike(model, net())


class WithStep(keras.Model):
    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs)


def test_a_slim_model_has_no_training_methods_of_ones_own():
    for kind in (keras.Model, WithStep):
        model, slim = net(kind), net()
        assert issubclass(training_kind(model), kind)
        compile_slim(model, slim)
        assert not slim.compiled
        model.compile("sgd", logits_loss)
        compile_slim(model, slim)
        assert slim.compiled == (kind is keras.Model)
        wrapped = resrep_keras.wrap(model, resrep_keras.MagnitudePruning(0.4))
        assert training_kind(wrapped) is kind


def made_by(way, dense):
    method = resrep_keras.MagnitudePruning(0.4)
    if way == "prune":
        return resrep_keras.prune(dense, method)
    if way == "redesign":
        return resrep_keras.redesign(dense, {"hidden": 5})
    wrapped = resrep_keras.wrap(dense, method)
    wrapped.fit(X, Y, verbose=0)
    return resrep_keras.finalize(wrapped)


@pytest.mark.parametrize("way", ["finalize", "prune", "redesign"])
def test_what_is_narrower_goes_on_at_once(way, tmp_path):
    dense = net()
    optimizer = keras.optimizers.AdamW(0.01)
    optimizer.exclude_from_weight_decay([dense.get_layer("top").kernel])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    dense.compile(optimizer, loss, metrics=["accuracy"])
    slim = made_by(way, dense)
    assert slim.count_params() < dense.count_params()
    assert decay_exclusions(slim.optimizer, [slim.get_layer("top").kernel])[0]
    history = slim.fit(X, Y, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] and "accuracy" in history
    slim.save(tmp_path / "slim.keras")  # with an optimizer that Keras alone can read
    loaded = keras.models.load_model(tmp_path / "slim.keras")
    assert type(loaded.optimizer) is keras.optimizers.AdamW
    assert loaded.evaluate(X, Y, verbose=0) == pytest.approx(slim.evaluate(X, Y, verbose=0))


@pytest.mark.parametrize("way", ["prune", "redesign"])
def test_what_was_not_compiled_stays_so(way):
    assert not made_by(way, net()).compiled
