"""A wrapped model that another model trains is pruned, or a warning at the first fit says how."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import zoo

# Keras runs the `call` of the model that trains by itself there, in which nobody knows that model;
# `finalize` tells that the target is not met.
told_in_training = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="on JAX a layer does not know which model trains it"
)

METHODS = {
    "resrep": lambda: resrep_keras.ResRep(0.4),
    "aofp": lambda: resrep_keras.AOFP(0.4, max_damage=1.0),
    "taylor": lambda: resrep_keras.TaylorPruning(0.4),
    "granet": lambda: resrep_keras.GraNet(0.6),
}


def net():
    inputs = keras.Input((6,))
    x = layers.Dense(16, activation="relu", name="first")(inputs)
    x = layers.Dense(12, activation="relu", name="second")(x)
    return zoo.randomise(keras.Model(inputs, layers.Dense(3, name="top")(x), name="net"))


class Around(keras.Model):
    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs, training=None):
        return ops.softmax(self.inner(inputs, training=training))


def functional(inner):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Softmax()(inner(inputs)))


def nested_twice(inner):
    return keras.Sequential([keras.Input((6,)), functional(inner)])


OUTER = {
    "sequential": lambda inner: keras.Sequential([inner, layers.Softmax()]),
    "functional": functional,
    "subclassed": Around,
    "nested twice": nested_twice,
}


def data():
    x = np.random.default_rng(0).normal(size=(160, 6)).astype("float32")
    return x, np.arange(160) % 3


def fit(outer, **settings):
    x, y = data()
    return outer.fit(x, y, batch_size=16, epochs=5, verbose=0, **settings)


def _pairs():
    """Each model around the first method, and each method in the first model, in every run."""
    for outer in OUTER:
        for kind in METHODS:
            every_run = outer == next(iter(OUTER)) or kind == next(iter(METHODS))
            yield pytest.param(outer, kind, marks=() if every_run else pytest.mark.slow)


each_outer_and_kind = pytest.mark.parametrize(("outer", "kind"), [*_pairs()])


@told_in_training
@each_outer_and_kind
def test_it_is_told_at_the_first_fit(outer, kind):
    model = OUTER[outer](resrep_keras.wrap(net(), METHODS[kind]()))
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="'net' is trained inside of model .*method.optimizer"):
        fit(model)


# --- made of its inputs and outputs, so that it is never called itself ---------------------------

BUILT_IN = ["resrep", "aofp", "taylor"]  # with compactors, which tell


def composed(wrapped):
    return keras.Model(wrapped.input, layers.Softmax()(wrapped.output), name="composed")


def units():
    x = keras.Input((5, 6))
    y = layers.LSTM(6, name="lstm")(x)
    return zoo.randomise(keras.Model(x, layers.Dense(3, name="top")(y), name="net"))


@told_in_training
@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_composed_model_is_told_at_its_first_fit_alone(kind):
    model = composed(resrep_keras.wrap(net(), METHODS[kind]()))
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="is trained inside of model 'composed'") as told:
        fit(model)
        fit(model)
    assert len([each for each in told if "inside of" in str(each.message)]) == 1


@told_in_training
def test_gates_inside_a_layer_tell():
    model = composed(resrep_keras.wrap(units(), resrep_keras.ResRep(0.3)))
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="'lstm_units_compactor' is trained inside of"):
        model.train_on_batch(np.zeros((4, 5, 6)), np.zeros((4, 3)))


def test_a_composed_model_is_pruned_as_the_warning_says():
    wrapped = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    model = composed(wrapped)
    optimizer = wrapped.method.optimizer(keras.optimizers.Adam(0.01), wrapped)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, callbacks=[resrep_keras.PruningCallback(wrapped.method)])
        slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.macs_left <= 0.6


@pytest.mark.parametrize("frozen", ["called", "composed"])
def test_a_frozen_one_is_a_feature_extractor_of_which_nothing_is_told(frozen):
    wrapped = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    wrapped.trainable = False
    head = layers.Dense(3, activation="softmax")
    inputs = wrapped.input if frozen == "composed" else keras.Input((6,))
    features = wrapped.output if frozen == "composed" else wrapped(inputs)
    model = keras.Model(inputs, head(features))
    model.compile("adam", "sparse_categorical_crossentropy")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model)


def test_finalize_tells_on_every_backend_that_nothing_was_pruned():
    wrapped = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    with pytest.raises(ValueError, match="The target is not met"):
        resrep_keras.finalize(wrapped, strict=True)


def test_inference_of_a_composed_model_is_not_told():
    model = composed(resrep_keras.wrap(net(), resrep_keras.ResRep(0.4)))
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.evaluate(x, y, verbose=0)
        model.predict(x, verbose=0)
        model(x, training=False)


# --- what it says ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:AOFP's moves")
@each_outer_and_kind
def test_it_is_pruned_as_the_warning_says(outer, kind):
    wrapped = resrep_keras.wrap(net(), METHODS[kind]())
    model = OUTER[outer](wrapped)
    optimizer = wrapped.method.optimizer(keras.optimizers.Adam(0.01), wrapped)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    history = fit(model, callbacks=[wrapped.method.callback()])
    assert {"macs_left", "sparsity", "channels"} & set(history.history)
    slim = resrep_keras.finalize(wrapped, strict=True)
    x, _ = data()
    np.testing.assert_allclose(
        ops.convert_to_numpy(slim(x)), ops.convert_to_numpy(wrapped(x)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.skipif(not hasattr(keras, "distillation"), reason="not in this Keras")
@pytest.mark.parametrize("told", [True, False])
def test_a_student_of_a_distiller(told):
    wrapped = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    distiller = keras.distillation.Distiller(
        teacher=net(), student=wrapped, distillation_losses=keras.distillation.LogitsDistillation()
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if told:
        if keras.backend.backend() == "jax":
            pytest.skip("on JAX a layer does not know which model trains it")
        distiller.compile("adam", loss)
        with pytest.warns(UserWarning, match="is trained inside of model"):
            fit(distiller)
        return
    distiller.compile(wrapped.method.optimizer(keras.optimizers.Adam(0.01), wrapped), loss)
    fit(distiller, callbacks=[wrapped.method.callback()])
    slim = resrep_keras.finalize(distiller.student, strict=True)
    assert slim.certificate.macs_left <= 0.6


def test_what_prunes_in_its_layers_is_not_told():
    inner = resrep_keras.wrap(zoo.build("residual"), resrep_keras.ActivationGradientPruning())
    model = keras.Sequential([inner, layers.Softmax()])
    model.compile("sgd", "mse")
    x = np.zeros((4, 8, 8, 3), "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(x, np.zeros((4, 3)), verbose=0)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("around", [None, functional, composed])
def test_a_training_loop_of_ones_own_is_not_told(around):
    import tensorflow as tf

    wrapped = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    model = around(wrapped) if around else wrapped
    optimizer = wrapped.method.optimizer(keras.optimizers.SGD(0.01), wrapped)
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = ops.mean(
                    keras.losses.sparse_categorical_crossentropy(y, model(x, training=True))
                )
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)


def test_inference_and_a_fit_of_its_own_are_not_told():
    wrapped = resrep_keras.wrap(net(), resrep_keras.ResRep(0.4))
    model = functional(wrapped)
    model.compile("adam", "sparse_categorical_crossentropy")
    wrapped.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.predict(x, verbose=0)
        model.evaluate(x, y, verbose=0)
        fit(wrapped)
