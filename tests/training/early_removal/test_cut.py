"""slim_every: dead channels leave while the model trains, and nothing else changes."""

import csv
import types

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.callback import PruningCallback
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.training.early_removal.sample import sample_inputs
from resrep_keras.training.early_removal.slimming import cut, worthwhile
from tests import helpers, zoo

METHODS = [
    ResRep(0.1, coupled=True, compactor="full", slim_every=1),
    ResRep(0.1, coupled=True, slim_every=1),
]
EVERY_KIND = (
    "mobilenet_block squeeze_excite shared_layer convolutions recurrent time_distributed"
).split()
if keras.backend.backend() != "tensorflow":  # where each new shape is compiled anew
    METHODS, EVERY_KIND = METHODS[:1], ["residual", "recurrent", "time_distributed"]


def data(size=8, channels=3, number=96):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(number, size, size, channels)).astype("float32")
    return x, generator.integers(0, 3, number)


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(name="chain", optimizer=None, metrics=(), **settings):
    keras.utils.set_random_seed(0)
    settings = {"target_reduction": 0.4, "slim_every": 1, **settings}
    model = resrep_keras.wrap(zoo.build(name), ResRep(**settings))
    optimizer = keras.optimizers.SGD(0.03, momentum=0.9) if optimizer is None else optimizer
    model.compile(optimizer, crossentropy(), metrics=list(metrics))
    return model


def train(model, epochs, **kwargs):
    x, y = data()
    return model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs)


def with_dead_channels(model, seed=0):
    """Kill random channels; returns the `ChannelState` and the dead channels."""
    channel_state = ChannelState(model)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed)
    helpers.kill(model, kept, channel_state)
    if channel_state.baseline is None:
        channel_state.baseline = model.method.baseline(model, channel_state)
    dead = channel_state.dead(0)
    assert dead.any()
    return channel_state, dead


def check_exact(name, method, last):
    model = resrep_keras.wrap(zoo.build(name, 1), method)
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    helpers.scramble(model, 1)
    channel_state, dead = with_dead_channels(model, 1)
    before, macs = helpers.outputs_of(model), channel_state.cost()(~dead)
    difference, done = cut(model, channel_state, dead, last, helpers.example_inputs(model, 8))
    assert done and difference <= 1e-5
    for a, b in zip(before, helpers.outputs_of(model)):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
    assert ChannelState(model).cost()() == macs
    assert bool(helpers.compactors(model)) != last
    slim = resrep_keras.finalize(model)
    assert slim.certificate.max_relative <= 1e-5
    assert slim.certificate.macs_dense == channel_state.cost()()
    assert slim.certificate.macs_slim == macs == resrep_keras.count_macs(slim)


@pytest.mark.parametrize("last", [False, True], ids=["compactors", "plain"])
@pytest.mark.parametrize("method", METHODS, ids=helpers.method_id)
@pytest.mark.parametrize("name", EVERY_KIND)
@pytest.mark.filterwarnings("ignore:The target is not met")
def test_a_cut_changes_no_output(name, method, last):
    check_exact(name, method, last)


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True], ids=["compactors", "plain"])
@pytest.mark.parametrize("method", METHODS, ids=helpers.method_id)
@pytest.mark.parametrize("name", sorted(set(zoo.ZOO) - set(EVERY_KIND)))
@pytest.mark.filterwarnings("ignore:The target is not met")
def test_a_cut_changes_no_output_of_the_rest_of_the_zoo(name, method, last):
    check_exact(name, method, last)


# --- training goes on --------------------------------------------------------------------------------


def steps(model, number, seed):
    generator = np.random.default_rng(seed)
    for _ in range(number):
        x = generator.normal(size=(16, *model.input_shape[1:])).astype("float32")
        model.train_on_batch(x, generator.integers(0, 3, 16))


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("chain", "sgd"),
        ("chain", "adam"),
        pytest.param("residual", "sgd", marks=pytest.mark.slow),
        pytest.param("residual", "adam", marks=pytest.mark.slow),
    ],
)
def test_training_goes_on_as_without_the_cut(name, optimizer):
    """Where compactors mix nothing, channels that are gone change no step of the others."""
    make = {"sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), "adam": "adam"}
    models = []
    for cuts in (False, True):
        made = make[optimizer]() if callable(make[optimizer]) else make[optimizer]
        model = compiled(name, made, compactor="diagonal")
        steps(model, 3, seed=1)
        channel_state, dead = with_dead_channels(model)
        for layer in helpers.compactors(model):  # dead columns stay so, whatever their velocity
            gone = ~np.array(layer.keep_mask)
            find_wrapper(model.optimizer).forget(layer.kernel, 1e-3 * gone)
        if cuts:
            assert cut(model, channel_state, dead, last=False)[1]
        steps(model, 6, seed=2)
        model.method = None  # any masks, whatever the target
        models.append(resrep_keras.finalize(model))
    whole, slim = models
    assert len(whole.weights) == len(slim.weights)
    for a, b in zip(whole.weights, slim.weights):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=2e-4, atol=2e-6, err_msg=a.path)


def two_convolutions():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, use_bias=False, name="first")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(3, 3, name="second")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


SELECTED = {  # axes of the four channels of the first convolution
    "first/kernel": (3,),
    "norm/gamma": (0,),
    "norm/beta": (0,),
    "second/kernel": (2,),
    "second/bias": (),
    "first_compactor/kernel": (2, 3),
    "norm_compactor/kernel": (2, 3),
}


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (lambda: keras.optimizers.SGD(0.01, momentum=0.9), ["momentum"]),
        (lambda: keras.optimizers.Adam(0.01), ["momentum", "velocity"]),
    ],
    ids=["sgd", "adam"],
)
def test_optimizer_slots_are_the_selected_ones(optimizer, slots):
    model = resrep_keras.wrap(two_convolutions(), ResRep(0.2, compactor="full", slim_every=1))
    model.compile(optimizer(), crossentropy())
    steps(model, 4, seed=1)
    model.optimizer.learning_rate = 0.0123  # as a callback does
    kept = np.array([True, False, True, True])
    channel_state = ChannelState(model)
    (layer,) = helpers.compactors(model)
    layer.keep_mask.assign(kept)
    layer.kernel.assign(layer.kernel * kept.astype("float32"))
    old = {v.path: np.array(v) for v in model.optimizer.variables}
    compactor = {w.path: [np.array(s) for s in _slots(model, w)] for w in [layer.kernel]}

    assert cut(model, channel_state, channel_state.dead(0), last=False)[1]

    new = {v.path: np.array(v) for v in model.optimizer.variables}
    assert old.keys() == new.keys()
    for path, axes in SELECTED.items():
        for slot in slots:
            names = [n for n in old if n.endswith(f"/{path.replace('/', '_')}_{slot}")]
            for name in names:
                expected = old[name]
                for axis in axes:
                    expected = np.compress(kept, expected, axis)
                np.testing.assert_array_equal(new[name], expected, err_msg=name)
                assert np.abs(expected).max() > 0
            assert names or "compactor" in path
    (layer,) = helpers.compactors(model)
    ((velocity, shrink),) = compactor.values()
    new_velocity, new_shrink = _slots(model, layer.kernel)
    np.testing.assert_array_equal(np.array(new_velocity), velocity[:, :, kept][:, :, :, kept])
    np.testing.assert_array_equal(np.array(new_shrink), shrink[kept])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.0123)
    assert int(model.optimizer.iterations) == int(model.optimizer.steps) == 4


def _slots(model, kernel):
    return find_wrapper(model.optimizer).compactor_optimizer.slots(kernel)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop(1e-3, centered=True)),
        *(
            pytest.param(optimizer, marks=pytest.mark.slow)
            for optimizer in (
                keras.optimizers.AdamW(1e-3, weight_decay=0.01),
                keras.optimizers.Adafactor(1e-3),
                keras.optimizers.Lion(1e-4, gradient_accumulation_steps=2),
                keras.optimizers.Nadam(keras.optimizers.schedules.CosineDecay(1e-3, 60)),
            )
        ),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_any_optimizer_goes_on(optimizer):
    model = compiled("chain", type(optimizer).from_config(optimizer.get_config()))
    history = train(model, 10)
    assert not helpers.compactors(model) and model.baseline.removal.channels > 0
    assert np.isfinite(history.history["loss"]).all()
    assert int(find_wrapper(model.optimizer).steps) == 60
    resrep_keras.finalize(model, strict=True)


# --- fit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compactor", ["full", "diagonal"])
def test_fit_ends_at_the_same_target(compactor, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "resrep_keras.training.early_removal.slimming.WORTH", 0.1
    )  # so that there are several cuts
    model = compiled("chain", metrics=["accuracy"], compactor=compactor)
    model.note = "mine"
    dense_macs = model.baseline.dense["macs"]
    widths, x, y = [], *data()

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert self.model is model
            widths.append(model.count_params())

    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=10,
        verbose=0,
        validation_data=(x[:32], y[:32]),
        callbacks=[
            Watch(),
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ],
    )
    differences = model.baseline.removal.differences
    assert max(differences) <= 1e-5 and len(differences) > 1
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0]
    assert model.note == "mine" and model.history is history
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    names = {"accuracy", "loss", "val_accuracy", "val_loss", "macs_left", "learning_rate"}
    assert names <= history.history.keys() and names <= rows[0].keys() and len(rows) == 10
    assert all(len(values) == 10 for values in history.history.values())
    rates = 0.03 * 0.9 ** np.arange(1, 11)
    np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-5)

    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_dense == dense_macs
    assert resrep_keras.count_macs(slim) <= 0.6 * dense_macs
    assert history.history["macs_left"][-1] == slim.certificate.macs_left
    assert history.history["macs_left"] == sorted(history.history["macs_left"], reverse=True)
    without = compiled("chain", metrics=["accuracy"], compactor=compactor, slim_every=None)
    train(without, 10)
    assert resrep_keras.finalize(without).certificate.macs_left <= 0.6
    assert resrep_keras.finalize(without).certificate.macs_left == pytest.approx(
        slim.certificate.macs_left, abs=0.1
    )


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("stop", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_saved_after_a_cut_and_resumed_equals_uninterrupted(stop, tmp_path):
    whole = compiled()
    train(whole, 8)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch + 1 == stop

    part = compiled()
    train(part, 8, callbacks=[Stop()])
    assert bool(helpers.compactors(part)) == (stop == 2)
    part.save(tmp_path / "part.keras")
    revived = keras.models.load_model(tmp_path / "part.keras")
    assert revived.baseline == part.baseline and helpers.difference(part, revived) == 0
    train(revived, 8, initial_epoch=stop)
    for a, b in zip(whole.weights, revived.weights):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=a.path)
    for a, b in zip(whole.optimizer.variables, revived.optimizer.variables):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=a.path)


@keras.saving.register_keras_serializable("test_cut")
class Scaled(keras.Model):
    """A loss of its own, which takes no `training`, and its tracker."""

    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor
        self.tracker = keras.metrics.Mean(name="scaled")

    @property
    def metrics(self):
        return [*super().metrics, self.tracker]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        value = self.factor * super().compute_loss(x, y, y_pred, sample_weight)
        self.tracker.update_state(value)
        return value

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.mark.tensorflow_only
def test_training_methods_of_ones_own_go_on():
    dense = zoo.build("chain")
    dense = Scaled(dense.input, dense.output, factor=0.5)
    model = resrep_keras.wrap(dense, ResRep(0.4, slim_every=1))
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), crossentropy())
    history = train(model, 8)
    assert not helpers.compactors(model) and model.factor == 0.5
    assert history.history["scaled"] == pytest.approx(history.history["loss"])
    resrep_keras.finalize(model, strict=True)


@pytest.mark.tensorflow_only
def test_the_best_pruned_model_is_kept_after_cuts(tmp_path):
    model = compiled()
    best = resrep_keras.PrunedCheckpoint(tmp_path / "best.keras", monitor="loss")
    train(model, 10, callbacks=[best])
    revived = keras.models.load_model(tmp_path / "best.keras")
    slim = resrep_keras.finalize(revived, strict=True)
    assert slim.certificate.macs_left <= 0.6


def test_a_cut_waits_for_its_epoch_and_for_enough_to_save():
    model = compiled(slim_every=3)
    sizes = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: sizes.append(model.count_params())
    )
    train(model, 9, callbacks=[watch])
    changes = [epoch for epoch in range(1, 9) if sizes[epoch] != sizes[epoch - 1]]
    assert changes and {epoch % 3 for epoch in changes} == {2}

    model = compiled("residual", compactor="diagonal")
    model.optimizer.build(model.trainable_variables)
    channel_state = ChannelState(model)
    kept = np.ones(channel_state.graph.num_channels, bool)
    helpers.kill(model, kept, channel_state)
    assert worthwhile(channel_state, model.method, selecting=True) is None
    dead, last = worthwhile(channel_state, model.method, selecting=False)
    assert not dead.any() and last  # the compactors are folded
    assert cut(model, channel_state, dead, last)[1]


@pytest.mark.filterwarnings("ignore:The target is not met")
def test_a_cut_waits_until_the_moving_averages_are_those_of_the_batches():
    """A cut keeps what inference computes; training sees batch statistics."""
    model = resrep_keras.wrap(zoo.build("chain", 2), ResRep(0.1, compactor="full", slim_every=1))
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    helpers.scramble(model, 1)
    channel_state, dead = with_dead_channels(model, 1)
    x = helpers.example_inputs(model, 64)
    before = [ops.convert_to_numpy(weight) for weight in model.weights]
    assert cut(model, channel_state, dead, False, x, tolerance=0.05) == (None, False)
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight, value)

    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    difference, done = cut(model, channel_state, dead, False, x, tolerance=0.05)
    assert done and difference <= 1e-5


def test_a_generator_leaves_the_channels_to_finalize():
    model = compiled()
    x, y = data()
    batches = ((x[:16], y[:16]) for _ in range(60))
    with pytest.warns(UserWarning, match="which a generator gives once"):
        model.fit(batches, epochs=10, steps_per_epoch=6, shuffle=False, verbose=0)
    assert not model.baseline.removal
    assert resrep_keras.finalize(model, strict=True).certificate.macs_left <= 0.6


def test_a_share_is_one_of_the_dense_width():
    model = compiled("chain", target_reduction=0.3, min_share=0.5)
    train(model, 8)
    widths = model.baseline.removal.widths
    for group in resrep_keras.trace(resrep_keras.finalize(model)).groups:
        for producer in group.producers:
            if producer.name in widths:
                assert len(producer.channels) >= 0.5 * widths[producer.name]


def test_the_new_batch_statistics_are_those_of_the_mixed_channels():
    """From a batch of data, the variance is known up to that of the running average."""
    model = resrep_keras.wrap(two_convolutions(), ResRep(0.2, compactor="full", slim_every=1))
    model.compile("sgd", crossentropy())
    model.optimizer.build(model.trainable_variables)
    x = data(6, 2, 64)[0] @ np.array([[1, 0.9], [0.9, 1]], "float32")  # correlated channels
    norm = model.get_layer("norm")
    norm.momentum = 0.0
    model(x, training=True)  # so that the statistics are those of this batch
    helpers.scramble(model)
    channel_state, dead = with_dead_channels(model)
    assert cut(model, channel_state, dead, False, ops.convert_to_tensor(x))[1]
    mixed = keras.Model(model.input, model.get_layer("first").output)(x)
    values = ops.convert_to_numpy(mixed).reshape(-1, mixed.shape[-1])
    norm = model.get_layer("norm")
    np.testing.assert_allclose(np.array(norm.moving_variance), values.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(np.array(norm.moving_mean), values.mean(axis=0), atol=1e-3)


def test_samples_use_up_no_generator():
    x = np.arange(6).reshape(6, 1)
    assert sample_inputs(x, size=2).shape == (2, 1)
    assert sample_inputs({"a": x}, size=2)["a"].shape == (2, 1)
    assert sample_inputs(iter([(x, x)])) is None and sample_inputs(None) is None

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return x[:3], x[3:]

    np.testing.assert_array_equal(sample_inputs(Batches()), x[:3])


# --- words -------------------------------------------------------------------------------------------


def test_a_cut_that_would_change_outputs_is_left_out(monkeypatch):
    model = compiled()
    monkeypatch.setattr("resrep_keras.training.early_removal.slimming.TOLERANCE", -1.0)
    with pytest.warns(UserWarning, match="were not removed in training: outputs would differ"):
        train(model, 6)
    assert not model.baseline.removal
    resrep_keras.finalize(model, strict=True)


@pytest.mark.parametrize(
    ("slim_every", "error"), [(0, ValueError), (1.5, TypeError), ("often", TypeError)]
)
def test_slim_every_is_a_number_of_epochs(slim_every, error):
    with pytest.raises(error, match="Expected slim_every to be an int of 1 or more"):
        ResRep(slim_every=slim_every)


def test_callbacks_that_keep_weights_of_wider_models_are_refused(tmp_path):
    for kind in (keras.callbacks.BackupAndRestore, resrep_keras.Backup):
        with pytest.raises(ValueError, match=f"{kind.__name__} keeps weights only"):
            train(compiled(), 2, callbacks=[kind(tmp_path)])
    stopping = keras.callbacks.EarlyStopping("loss", restore_best_weights=True)
    with pytest.raises(ValueError, match="Set restore_best_weights=False or slim_every=None"):
        train(compiled(), 2, callbacks=[stopping])


@pytest.mark.tensorflow_only
def test_distributed_training_is_refused(monkeypatch):
    several = types.SimpleNamespace(num_replicas_in_sync=2)
    model = compiled()
    monkeypatch.setattr(type(model), "distribute_strategy", several)
    with pytest.raises(ValueError, match="is distributed"):
        train(model, 2)


def test_training_loops_of_ones_own_are_refused():
    callbacks = keras.callbacks.CallbackList([PruningCallback()], model=compiled())
    with pytest.raises(ValueError, match="Set slim_every=None in a training loop of your own"):
        callbacks.on_train_begin()
