"""Models with training methods of their own: what wrap keeps, and what it says it cannot keep."""

import keras
import numpy as np
import pytest

import resrep_keras
from tests import helpers, zoo

pytestmark = pytest.mark.tensorflow_only


def data(size=64):
    generator = np.random.default_rng(0)
    return generator.normal(size=(size, 8, 8, 3)).astype("float32"), generator.integers(0, 3, size)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class WithStep(keras.Model):
    """The first example of Keras's guide to training steps of one's own."""

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as recording:
            value = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = recording.gradient(value, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"mine": value}


@keras.saving.register_keras_serializable("test_own_training")
class Scaled(keras.Model):
    """A constructor with a setting, a loss of its own and its tracker."""

    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor
        self.tracker = keras.metrics.Mean(name="scaled")

    @property
    def metrics(self):
        return [*super().metrics, self.tracker]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        value = self.factor * super().compute_loss(x, y, y_pred, sample_weight, training)
        self.tracker.update_state(value)
        return value

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Teacher(keras.Model):
    """A constructor that takes more than inputs and outputs."""

    def __init__(self, inputs, outputs, teacher):
        super().__init__(inputs, outputs)
        self.teacher = teacher

    def test_step(self, data):
        return super().test_step(data)


class PerhapsTeacher(Teacher):
    """The same, but one that could be made without the teacher: it must not be lost either."""

    def __init__(self, inputs, outputs, name=None, teacher=None):
        super().__init__(inputs, outputs, teacher)


class Compiled(keras.Model):
    """Takes a loss of its own in compile."""

    def compile(self, optimizer, own_loss):
        super().compile(optimizer)
        self.own_loss = own_loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return self.own_loss(y, y_pred)


class Subclassed(keras.Model):
    """Not Functional: layers and a training step in one class."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.body = keras.layers.Conv2D(8, 3, activation="relu")
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.top = keras.layers.Dense(3)

    def call(self, inputs):
        return self.top(self.pool(self.body(inputs)))

    def train_step(self, data):
        return super().train_step(data)


def as_model(kind, **kwargs):
    plain = zoo.build("residual")
    return kind(inputs=plain.input, outputs=plain.output, **kwargs)


def fit(model):
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=5, verbose=0).history


def test_a_training_step_of_ones_own_is_kept():
    dense = as_model(WithStep)
    dense.compile("adam", loss())
    model = resrep_keras.wrap(dense)
    assert isinstance(model, WithStep) and model.compiled
    assert helpers.difference(dense, model) == 0
    history = fit(model)
    assert set(history) == {"mine", "macs_left"}
    assert resrep_keras.finalize(model, strict=True).certificate.macs_left <= 0.5


def test_two_wrapped_models_of_a_class_share_one_class():
    first, second = (resrep_keras.wrap(as_model(WithStep)) for _ in range(2))
    assert type(first) is type(second)
    assert type(resrep_keras.wrap(zoo.build("residual"))) is not type(first)


def test_settings_and_trackers_are_kept_and_saved(tmp_path):
    model = resrep_keras.wrap(as_model(Scaled, factor=3.0))
    model.compile("sgd", loss())
    history = fit(model)
    plain = keras.Model(model.input, model.output)
    plain.compile("sgd", loss())
    x, y = data()
    np.testing.assert_allclose(
        model.evaluate(x, y, verbose=0)[0], 3 * plain.evaluate(x, y, verbose=0), rtol=1e-5
    )
    assert "scaled" in history
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model) and loaded.factor == 3.0 and loaded.method == model.method
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    resrep_keras.finalize(loaded, strict=True)


def test_a_class_that_is_not_known_when_loading_is_named(tmp_path):
    model = resrep_keras.wrap(as_model(WithStep))
    model.save(tmp_path / "model.keras")
    with pytest.raises(TypeError, match=r"class 'WithStep', which is not known here.*register"):
        keras.models.load_model(tmp_path / "model.keras")
    objects = {"WithStep": WithStep}
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects=objects)
    assert isinstance(loaded, WithStep)


def test_arguments_of_ones_own_in_compile():
    model = resrep_keras.wrap(as_model(Compiled))
    model.compile("adam", own_loss=loss())
    assert isinstance(model.optimizer, resrep_keras.PenaltyOptimizer)
    assert fit(model)["loss"][-1] > 0
    resrep_keras.finalize(model, strict=True)


@pytest.mark.parametrize("kind", [Teacher, PerhapsTeacher])
def test_what_cannot_be_kept_is_named(kind):
    text = rf"is a {kind.__name__}, whose own test_step .* cannot have"
    with pytest.warns(UserWarning, match=text) as caught:
        model = resrep_keras.wrap(as_model(kind, teacher=zoo.build("residual")))
    assert not isinstance(model, Teacher)
    assert __file__ in {warning.filename for warning in caught}


def test_a_subclassed_model_is_told_the_way_which_works():
    dense = Subclassed()
    dense(data()[0][:1])
    text = r"'subclassed' is a Subclassed, .* own train_step .* wrap `Training\(inputs, model\("
    with pytest.warns(UserWarning, match=text):
        resrep_keras.wrap(dense)
    inputs = keras.Input((8, 8, 3))
    model = resrep_keras.wrap(WithStep(inputs, dense(inputs)))
    model.compile("adam", loss())
    assert "mine" in fit(model)
    resrep_keras.finalize(model, strict=True)


def test_a_model_that_only_overrides_call_is_not_warned_about():
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(8), keras.layers.Dense(2)

        def call(self, inputs):
            return self.second(self.first(inputs))

    dense = Plain()
    dense(np.ones((2, 4), "float32"))
    assert type(resrep_keras.wrap(dense)).__name__ == "WrappedModel"
