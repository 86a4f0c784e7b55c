"""A wrapped model learns from a teacher: what is added to the loss, and what fits."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import Distillation, ResRep
from tests import zoo

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(64, 6)).astype("float32")
Y = GENERATOR.integers(0, 3, 64)
FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
CLASSES = "sparse_categorical_crossentropy"


def net(activation=None, units=3, name="net", dropout=0.0, seed=0, **settings):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    x = layers.Dense(16, activation="relu", name="first", **settings)(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dense(12, activation="relu", name="second")(layers.Dropout(dropout)(x))
    x = layers.Dense(units, activation=activation, name="top", dtype="float32")(x)
    return zoo.randomise(keras.Model(inputs, x, name=name))


def taught(dense=None, teacher=None, method=None, loss=FROM_LOGITS, **settings):
    """Wrapped and compiled; the student is moved away from its teacher."""
    dense = net() if dense is None else dense
    teacher = dense if teacher is None else teacher
    model = resrep_keras.wrap(dense, method or ResRep(0.3), teacher)
    moved = np.random.default_rng(1)
    for variable in model.get_layer("second").trainable_variables:
        variable.assign(variable + moved.normal(size=variable.shape))
    model.compile("sgd", loss, **settings)
    return model


def added(model, x=X, y=Y, weight=None):
    """What the teacher adds to the loss."""
    outputs = model(x)
    given = {"x": x, "y": y, "y_pred": outputs, "sample_weight": weight}
    both = [float(model.compute_loss(**given, training=training)) for training in (True, False)]
    return both[0] - both[1]


def divergence(teacher, student, temperature=3.0):
    loss = keras.distillation.LogitsDistillation(temperature, keras.losses.KLDivergence())
    return float(loss.compute_loss(teacher, student))


# --- what is added --------------------------------------------------------------------------------


def test_logits():
    dense = net()
    model = taught(dense)
    assert added(model) == pytest.approx(divergence(dense(X), model(X)), rel=1e-4)
    strong = taught(dense, Distillation(dense, weight=2.5, temperature=1.5))
    expected = 2.5 * divergence(dense(X), strong(X), 1.5)
    assert added(strong) == pytest.approx(expected, rel=1e-4)


def test_a_softmax():
    dense = net("softmax")
    model = taught(dense, loss=CLASSES)
    expected = divergence(ops.log(dense(X)), ops.log(model(X)))
    assert added(model) == pytest.approx(expected, rel=1e-4) and expected > 0.1


def test_another_net_in_inference():
    """A teacher of another shape, with dropout and statistics of its own."""
    teacher = net(dropout=0.5, name="teacher", seed=5)
    before = [ops.convert_to_numpy(v).copy() for v in teacher.variables]
    model = taught(teacher=teacher, method=ResRep(0.3))
    assert added(model) == pytest.approx(divergence(teacher(X), model(X)), rel=1e-4)
    model.fit(X, Y, epochs=5, verbose=0)
    for old, new in zip(before, teacher.variables):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))
    own = {id(v) for v in model.variables} | {id(v) for v in model.optimizer.variables}
    assert not own & {id(v) for v in teacher.variables}
    assert teacher.trainable and all(layer is not teacher for layer in model.layers)


class Subclassed(keras.Model):
    """Written as people write them; its call takes no `training`."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8, activation="relu", name="second")
        self.top = layers.Dense(3, name="top")

    def call(self, inputs):
        return self.top(self.hidden(inputs))


def test_a_subclassed_model():
    dense = Subclassed()
    dense(X)
    model = taught(dense)
    assert added(model) == pytest.approx(divergence(dense(X), model(X)), rel=1e-4)


def test_masked_positions_say_nothing():
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 8, mask_zero=True)(inputs)
    x = layers.Dense(8, activation="relu", name="second")(x)
    dense = zoo.randomise(keras.Model(inputs, layers.Dense(3, name="top")(x)))
    model = taught(dense)
    words = np.array([[1, 2, 0, 0], [3, 4, 1, 0]])
    y, held = np.zeros((2, 4), "int32"), words != 0
    expected = divergence(
        ops.convert_to_numpy(dense(words))[held], ops.convert_to_numpy(model(words))[held]
    )
    assert added(model, words, y) == pytest.approx(expected, rel=1e-4)


def test_other_outputs_are_compared_as_values():
    dense = net("tanh")
    model = taught(dense, loss="mse")
    y = np.zeros((64, 3), "float32")
    expected = float(ops.mean(ops.square(dense(X) - model(X))))
    assert added(model, y=y) == pytest.approx(expected, rel=1e-4)


def test_weights_of_examples():
    """The examples of weight zero say nothing: half of the rest's mean is left."""
    dense = net()
    model = taught(dense)
    weight = np.repeat([1.0, 0.0], 32).astype("float32")
    expected = divergence(dense(X[:32]), model(X[:32])) / 2
    assert added(model, weight=weight) == pytest.approx(expected, rel=1e-4)


def heads(structure, losses):
    """Classes, a value and an output that nothing is asked of."""
    inputs = keras.Input((6,))
    x = layers.Dense(16, activation="relu", name="second")(inputs)
    classes = layers.Dense(3, activation="softmax", name="classes")(x)
    value, free = layers.Dense(1, name="value")(x), layers.Dense(2, name="free")(x)
    dense = zoo.randomise(keras.Model(inputs, structure(classes, value, free), name="heads"))
    by_name = {"classes": CLASSES, "value": "mse", "free": None}
    weights = {"classes": 1.0, "value": 0.25, "free": 3.0}
    names = dense.output_names if losses is list else None
    if losses is list:
        loss, weight = [by_name[n] for n in names], [weights[n] for n in names]
    else:
        loss, weight = by_name, weights
    return dense, taught(dense, loss=loss, loss_weights=weight)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of the output without a loss
@pytest.mark.parametrize(
    ("structure", "losses"),
    [
        (lambda c, v, f: [v, c, f], list),
        (lambda c, v, f: [v, c, f], dict),
        (lambda c, v, f: {"value": v, "free": f, "classes": c}, dict),
    ],
    ids=["list", "by name", "dict"],
)
def test_several_outputs(structure, losses):
    dense, model = heads(structure, losses)
    names = dense.output_names
    told = dict(zip(names, keras.tree.flatten(dense(X))))
    mine = dict(zip(names, keras.tree.flatten(model(X))))
    expected = divergence(ops.log(told["classes"]), ops.log(mine["classes"]))
    expected += 0.25 * float(ops.mean(ops.square(told["value"] - mine["value"])))
    targets = {"classes": Y, "value": np.zeros((64, 1), "float32"), "free": np.zeros((64, 2))}
    y = keras.tree.pack_sequence_as(dense.output, [targets[name] for name in names])
    assert added(model, y=y) == pytest.approx(expected, rel=1e-4)
    model.fit(X, y, verbose=0)


def test_a_loss_of_ones_own():
    class Far(keras.distillation.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return ops.max(ops.abs(teacher_outputs - student_outputs))

    dense = net()
    model = taught(dense, Distillation(dense, loss=Far()))
    expected = float(ops.max(ops.abs(dense(X) - model(X))))
    assert added(model) == pytest.approx(expected, rel=1e-4)


# --- runs -----------------------------------------------------------------------------------------


METHODS = {
    "resrep": lambda: ResRep(0.3),
    "early": lambda: ResRep(0.3, slim_every=1),
    "taylor": lambda: resrep_keras.TaylorPruning(0.3),
    "granet": lambda: resrep_keras.GraNet(0.6),
    "lasso": lambda: resrep_keras.GroupLasso(0.3, at=0.3, strength=1e-3),
}


EVERY_RUN = ("resrep", "early", "granet")


def some(names, every_run):
    return [pytest.param(n, marks=() if n in every_run else pytest.mark.slow) for n in names]


@pytest.mark.parametrize("method", some(METHODS, EVERY_RUN))
def test_every_method_learns_from_a_teacher(method):
    """Labels of one class; what a heavy teacher says of the others is learned all the same."""
    dense = net()
    told = ops.convert_to_numpy(dense(X)).argmax(-1)
    model = taught(dense, Distillation(dense, weight=30.0), METHODS[method]())
    model.compile(keras.optimizers.Adam(0.02), FROM_LOGITS)
    model.fit(X, np.zeros_like(Y), batch_size=16, epochs=12, verbose=0)
    agrees = (model.predict(X, verbose=0).argmax(-1) == told).mean()
    assert agrees > 0.75 and (told == 0).mean() < 0.6
    slim = resrep_keras.finalize(model, strict=True)
    assert type(slim) is type(net()) and slim.compiled
    assert slim.loss is FROM_LOGITS and slim.count_params() <= dense.count_params()


SETTINGS = {
    "jit": {"jit_compile": True},
    "eager": {"run_eagerly": True},
    "many steps": {"steps_per_execution": 2, "jit_compile": False},
}


@pytest.mark.parametrize("settings", some(SETTINGS, ("jit", "eager")))
def test_the_first_step_is_that_of_the_formula(settings):
    dense = net()
    model = taught(dense, **SETTINGS[settings])
    given = {"x": X, "y": Y, "y_pred": model(X, training=True)}
    expected = float(model.compute_loss(**given))
    history = model.fit(X, Y, batch_size=64, epochs=5, verbose=0, shuffle=False).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-3)
    task = float(model.compute_loss(x=X, y=Y, y_pred=model(X), training=False))
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(task, rel=1e-4)


@pytest.mark.tensorflow_only
def test_half_precision_and_a_data_set():
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_float16")
    try:
        dense = net()
        model = taught(dense, jit_compile=False)
    finally:
        keras.config.set_dtype_policy("float32")
    data = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(64, "float32"))).batch(16)
    given = {"epochs": 5, "shuffle": False, "verbose": 0, "validation_data": data}
    history = model.fit(data, **given).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    resrep_keras.finalize(model, strict=True)


def test_a_teacher_is_not_saved(tmp_path):
    dense = net()
    distillation = Distillation(dense, weight=2.0, temperature=4.0)
    model = taught(dense, distillation)
    without = resrep_keras.wrap(dense, ResRep(0.3))
    assert len(model.weights) == len(without.weights)
    model.fit(X, Y, verbose=0, epochs=5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for run in (lambda: loaded.fit(X, Y, verbose=0), lambda: loaded.train_on_batch(X, Y)):
        with pytest.raises(ValueError, match=r"not saved with it. Call model.set_teacher\(teacher"):
            run()
    loaded.evaluate(X, Y, verbose=0)  # needs none
    loaded.set_teacher(dense)
    assert added(loaded) == pytest.approx(added(model), rel=1e-4)
    assert resrep_keras.finalize(loaded, strict=True).certificate.macs_left <= 0.7
    loaded.set_teacher(None)
    assert added(loaded) == 0
    loaded.fit(X, Y, verbose=0)


def test_losses_of_keras_are_saved(tmp_path):
    dense = net()
    loss = keras.distillation.LogitsDistillation(2.0, loss=keras.losses.KLDivergence())
    model = taught(dense, Distillation(dense, loss=loss))
    model.train_on_batch(X, Y)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded.set_teacher(dense)
    assert loaded.distilled.value.settings.loss.temperature == 2.0


def test_a_teacher_that_is_set_later_is_learned_from():
    dense, other = net(), net(seed=7)
    model = taught(dense)
    model.train_on_batch(X, Y)  # traced with the first
    model.set_teacher(Distillation(other, weight=100.0))
    before = added(model)
    model.compile(keras.optimizers.SGD(1e-3), FROM_LOGITS)
    for _ in range(10):
        model.train_on_batch(X, Y)
    assert added(model) < 0.95 * before


def test_a_backup_goes_on_with_the_teacher(tmp_path):
    dense = net()

    def run(epochs, folder):
        keras.utils.set_random_seed(3)
        model = taught(dense)
        backup = resrep_keras.Backup(tmp_path / folder, delete_checkpoint=False)
        model.fit(X, Y, epochs=epochs, shuffle=False, verbose=0, callbacks=[backup])
        return [ops.convert_to_numpy(v) for v in model.trainable_variables]

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    whole = run(6, "whole")
    keras.utils.set_random_seed(3)
    stopped = taught(dense)
    backup = resrep_keras.Backup(tmp_path / "stopped", delete_checkpoint=False)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y, epochs=6, shuffle=False, verbose=0, callbacks=[backup, Stop()])
    for expected, found in zip(whole, run(6, "stopped"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class WithStep(keras.Model):
    """Asks for the loss as Keras's guide does it."""

    asks = True

    def train_step(self, *args):
        return super().train_step(*args) if self.asks else {"loss": ops.zeros(())}


class Silent(WithStep):
    asks = False


@pytest.mark.tensorflow_only
def test_a_train_step_of_ones_own():
    inner = net()
    dense = WithStep(inner.input, inner.output, name="own")
    model = taught(dense)
    model.fit(X, Y, verbose=0)
    silent = taught(Silent(inner.input, inner.output, name="own"))
    with pytest.warns(UserWarning, match=r"'own' did not learn from its teacher: .*compute_loss"):
        silent.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="was called without x, which its teacher reads"):
        model.compute_loss(y=Y, y_pred=model(X))


# --- what does not fit ----------------------------------------------------------------------------


def named(first, second):
    inputs = keras.Input((6,))
    outputs = [layers.Dense(3, name=name)(inputs) for name in (first, second)]
    return keras.Model(inputs, outputs, name="named")


class NoGraph(keras.Model):
    def call(self, inputs):
        return self.top(inputs) if float(ops.sum(inputs)) > 0 else inputs


BAD = {
    "no model": (lambda: (net(), 3), TypeError, "teacher to be a trained keras.Model or a resrep"),
    "shapes": (
        lambda: (net(), net(units=4, name="t")),
        ValueError,
        r"'t' makes outputs \(None, 4\), model 'net' \(None, 3\)",
    ),
    "structure": (lambda: (net(), named("a", "b")), ValueError, "outputs of the same structure"),
    "order": (
        lambda: (named("a", "b"), named("b", "a")),
        ValueError,
        "in the order b, a, model 'named' in the order a, b",
    ),
    "inputs": (
        lambda: (net(), keras.Sequential([keras.Input((5,)), layers.Dense(3)], name="t")),
        ValueError,
        "'t' does not take the inputs of model 'net'",
    ),
    "unbuilt": (
        lambda: (net(), keras.Sequential([layers.Dense(3)])),
        ValueError,
        "Expected teacher to be built",
    ),
    "layers": (
        lambda: (
            net(),
            Distillation(
                net(), loss=keras.distillation.FeatureDistillation("mse", "first", "first")
            ),
        ),
        ValueError,
        r"compares layers 'first' and 'first'.*keras.distillation.Distiller",
    ),
    "probabilities": (
        lambda: (
            net("softmax"),
            Distillation(net("softmax"), loss=keras.distillation.LogitsDistillation(2.0)),
        ),
        ValueError,
        r"takes logits.*Leave loss out: Distillation\(teacher, temperature=2.0\)",
    ),
    "no teacher": (lambda: (net(), Distillation(None)), ValueError, "got one without"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_teacher_that_does_not_fit_is_refused(case):
    make, error, words = BAD[case]
    dense, teacher = make()
    method = resrep_keras.GraNet(0.5) if case == "order" else ResRep(0.3)
    with pytest.raises(error, match=words):
        resrep_keras.wrap(dense, method, teacher)


def test_it_is_not_its_own_teacher():
    model = taught()
    with pytest.raises(ValueError, match="other than the model 'net' itself"):
        model.set_teacher(model)


def test_heads_that_do_not_fit_are_refused_before_the_first_step():
    model = taught(net("softmax"), net("sigmoid"), loss=CLASSES)
    with pytest.raises(ValueError, match="teacher's outputs end in sigmoid, those of the model in"):
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    "settings", [{"weight": 0}, {"weight": "much"}, {"temperature": -1}, {"loss": "mse"}]
)
def test_settings_are_checked(settings):
    with pytest.raises((TypeError, ValueError), match=f"Expected `?{next(iter(settings))}"):
        Distillation(net(), **settings)


def test_a_slim_model_learns_in_a_distiller_of_keras():
    dense = net()
    model = taught(dense)
    model.fit(X, Y, epochs=5, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    loss = keras.distillation.LogitsDistillation(3.0, loss=keras.losses.KLDivergence())
    distiller = keras.distillation.Distiller(dense, slim, loss, student_loss_weight=0.1)
    before = divergence(dense(X), slim(X))
    distiller.compile(keras.optimizers.Adam(0.01), FROM_LOGITS)
    distiller.fit(X, Y, epochs=10, verbose=0)
    assert divergence(dense(X), slim(X)) < before
