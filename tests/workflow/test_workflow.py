"""wrap, compile, fit, finalize as a user meets them."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import MagnitudePruning, PenaltyOptimizer, PruningCallback, ResRep
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.schedules import PaperSchedule
from tests import helpers, zoo

pytestmark = pytest.mark.tensorflow_only


def data(size=64):
    generator = np.random.default_rng(0)
    return generator.normal(size=(size, 8, 8, 3)).astype("float32"), generator.integers(0, 3, size)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def wrapped(method=None, name="residual", optimizer="sgd", **kwargs):
    model = resrep_keras.wrap(zoo.build(name), method)
    model.compile(optimizer, loss(), **kwargs)
    return model


SCHEDULES = {
    "sgd_cosine": lambda steps: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9
    ),
    "sgd_constant": lambda steps: keras.optimizers.SGD(0.01),
    "adam_constant": lambda steps: keras.optimizers.Adam(),
}


@pytest.mark.parametrize("epochs", [5, 9])
@pytest.mark.parametrize("optimizer", SCHEDULES)
@pytest.mark.parametrize("name", ["residual", "chain", "squeeze_excite"])
def test_defaults_meet_the_target_in_any_run_of_five_epochs_or_more(name, optimizer, epochs):
    x, y = data()
    model = resrep_keras.wrap(zoo.build(name))
    model.compile(SCHEDULES[optimizer](epochs * 4), loss())
    history = model.fit(x, y, batch_size=16, epochs=epochs, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    dense = resrep_keras.count_macs(zoo.ZOO[name]())
    assert resrep_keras.count_macs(slim) <= 0.5 * dense
    assert slim.certificate.max_relative <= 1e-4
    assert history.history["macs_left"][-1] == slim.certificate.macs_left


@pytest.mark.parametrize(
    "optimizer", ["adam", "sgd", keras.optimizers.AdamW(1e-3), keras.optimizers.RMSprop(1e-3)]
)
def test_compile_wraps_any_optimizer_once(optimizer):
    model = wrapped(optimizer=optimizer)
    assert isinstance(model.optimizer, PenaltyOptimizer)
    assert not isinstance(model.optimizer.inner_optimizer, PenaltyOptimizer)
    own = PenaltyOptimizer("sgd", penalty_strength=1e-3)
    model.compile(own, loss())
    assert model.optimizer is own


def test_a_loss_scale_stays_outside():
    model = wrapped(optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01)))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, PenaltyOptimizer)
    x, y = data()
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    resrep_keras.finalize(model, strict=True)


@pytest.mark.parametrize("normalization", ["none", "layer"])
def test_normalization_decides_what_is_compared(normalization):
    model = wrapped(ResRep(0.05, normalization=normalization), name="chain")
    first, second = helpers.compactors(model)[:2]
    first.kernel.assign(first.kernel * 3.0)  # a large layer with one relatively small channel
    first.kernel.assign(first.kernel * np.array([0.5, 1, 1, 1, 1, 1]))
    channel_state = ChannelState(model)
    scores = model.method.scores(channel_state)
    in_first = scores[channel_state.compactors[0][1]].min()
    in_second = scores[channel_state.compactors[1][1]].min()
    assert (in_first < in_second) == (normalization == "layer")
    assert second.column_norms().max() == 1


def test_a_compiled_dense_model_stays_compiled():
    dense = zoo.build("residual")
    rate = keras.optimizers.schedules.CosineDecay(0.03, 40)
    dense.compile(
        keras.optimizers.SGD(rate, momentum=0.7, clipnorm=1.0), loss(), metrics=["accuracy"]
    )
    model = resrep_keras.wrap(dense)
    inner = model.optimizer.inner_optimizer
    assert str(inner.get_config()) == str(dense.optimizer.get_config())
    x, y = data()
    history = model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    assert "accuracy" in history.history
    resrep_keras.finalize(model, strict=True)


def test_a_loss_function_of_ones_own_stays_compiled():
    def my_loss(true, predicted):
        return keras.losses.sparse_categorical_crossentropy(true, predicted, from_logits=True)

    dense = zoo.build("residual")
    dense.compile("adam", my_loss)
    assert resrep_keras.wrap(dense).compiled


def test_fit_installs_one_callback_and_keeps_the_users():
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["macs_left"])

    model = wrapped()
    x, y = data()
    own = PruningCallback()
    model.fit(x, y, 16, 2, 0, [own, Spy()])
    model.fit(x, y, epochs=2, verbose=0, callbacks=Spy())
    assert len(seen) == 4 and own.macs_left() < 1


def test_macs_left_falls_to_the_target_and_is_logged():
    model = wrapped()
    x, y = data()
    left = model.fit(x, y, batch_size=8, epochs=6, verbose=0).history["macs_left"]
    assert left == sorted(left, reverse=True) and left[-1] <= 0.5 < left[0]


def test_slim_is_plain_and_trains_on():
    model = wrapped(MagnitudePruning(0.4))
    x, y = data()
    model.fit(x, y, epochs=2, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    slim.compile("adam", loss())
    slim.fit(x, y, epochs=1, verbose=0)
    modules = {type(layer).__module__.split(".")[0] for layer in slim.layers}
    assert modules == {"keras"}


def test_one_shot_pruning_meets_the_target_and_leaves_the_dense_model():
    dense = zoo.build("vgg")
    before = dense.count_params()
    slim = MagnitudePruning(target_reduction=0.6).prune(dense)
    assert resrep_keras.count_macs(slim) <= 0.4 * resrep_keras.count_macs(dense)
    assert dense.count_params() == before


def test_one_shot_pruning_takes_the_smallest_kernels():
    inputs = keras.Input((6, 6, 1))
    conv = layers.Conv2D(4, 3, name="conv")
    dense = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(conv(inputs))))
    kernel = np.ones((3, 3, 1, 4)) * np.array([4.0, 1.0, 3.0, 2.0])
    conv.set_weights([kernel, np.zeros(4)])
    # Half of 4 * 16 * (9 + 2) MACs is two channels.
    slim = MagnitudePruning(0.5).prune(dense)
    np.testing.assert_array_equal(slim.get_layer("conv").kernel, kernel[..., [0, 2]])


def test_finalize_before_training_warns_and_strict_raises():
    model = wrapped()
    with pytest.warns(
        UserWarning, match=r"target is not met: target_reduction=0.5 of macs, but 0.0000"
    ):
        slim = resrep_keras.finalize(model)
    assert resrep_keras.count_macs(slim) == slim.certificate.macs_dense
    with pytest.raises(ValueError, match="The target is not met"):
        resrep_keras.finalize(model, strict=True)


def test_masked_channels_above_the_threshold_are_kept_and_named():
    model = wrapped()
    layer = helpers.compactors(model)[0]
    layer.keep_mask.assign([False, False, True, True, True, True])
    layer.kernel.assign(layer.kernel * np.array([1e-6, 1, 1, 1, 1, 1]))
    with pytest.warns(UserWarning) as caught:
        slim = resrep_keras.finalize(model)
    assert "1 masked channels are still above the threshold (largest norm 1)" in "".join(
        str(warning.message) for warning in caught
    )
    widths = [layer.filters for layer in slim.layers if isinstance(layer, layers.Conv2D)]
    assert 5 in widths


def test_a_layer_whose_channels_are_all_dead_keeps_one():
    model = wrapped()
    layer = helpers.compactors(model)[0]
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    with pytest.warns(UserWarning, match="target is not met"):
        slim = resrep_keras.finalize(model)
    assert helpers.difference(model, slim) <= 1e-4


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_unknown_number_of_steps_is_learnt_in_the_first_epoch():
    x, y = data()

    def batches():
        for start in range(0, 64, 16):
            yield x[start : start + 16], y[start : start + 16]

    import tensorflow as tf

    spec = (tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((None,), tf.int64))
    stream = tf.data.Dataset.from_generator(batches, output_signature=spec)
    model = wrapped()
    with pytest.raises(ValueError, match=r"steps_per_epoch=.*ResRep\(total_steps="):
        model.fit(stream, epochs=1, verbose=0, shuffle=False)
    model.fit(stream, epochs=6, verbose=0, shuffle=False)
    resrep_keras.finalize(model, strict=True)


def test_paper_settings_in_a_short_run_are_refused_before_the_first_step():
    model = wrapped(ResRep.paper())
    before = model.get_weights()
    x, y = data()
    with pytest.raises(ValueError, match=r"cannot meet its target: \d+ selections are needed"):
        model.fit(x, y, epochs=5, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_a_diverged_training_is_called_that():
    model = wrapped()
    kernel = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with (
        pytest.warns(UserWarning, match="target is not met"),
        pytest.warns(
            UserWarning, match="nan of the largest output. The outputs are not finite: tra"
        ),
    ):
        resrep_keras.finalize(model)


def test_paper_settings_work_where_the_budget_allows():
    schedule = PaperSchedule(warmup_epochs=1, interval=4, channels_per_selection=2)
    method = ResRep.paper(schedule=schedule, penalty_strength=0.1, momentum=0.9)
    model = wrapped(method, optimizer=keras.optimizers.SGD(0.05))
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=12, verbose=0)
    kept = [np.array(layer.keep_mask).sum() for layer in helpers.compactors(model)]
    assert sum(kept) < sum(layer.keep_mask.shape[0] for layer in helpers.compactors(model))


def test_steps_per_execution():
    model = wrapped(steps_per_execution=3)
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=6, verbose=0)
    resrep_keras.finalize(model, strict=True)


@pytest.mark.parametrize(
    "method", [ResRep(0.3, min_channels=2, exclude=("conv2d",)), MagnitudePruning(0.7, order=2)]
)
def test_method_config_round_trip(method):
    config = keras.saving.serialize_keras_object(method)
    assert keras.saving.deserialize_keras_object(config) == method


def test_excluded_layers_get_no_compactor():
    dense = zoo.build("chain")
    names = [layer.name for layer in dense.layers if isinstance(layer, layers.Conv2D)]
    model = resrep_keras.wrap(dense, ResRep(0.2, exclude=names[1:2]))
    assert f"{names[1]}_compactor" not in {layer.name for layer in model.layers}


BAD = [
    (lambda: resrep_keras.wrap("model"), TypeError, "Expected a keras.Model; got 'model'"),
    (
        lambda: resrep_keras.wrap(keras.Sequential([layers.Conv2D(4, 3)])),
        ValueError,
        "Start it with keras.Input",
    ),
    (
        lambda: resrep_keras.wrap(keras.Sequential([keras.Input((3,)), layers.Dense(2)])),
        ValueError,
        "no channels that can be pruned",
    ),
    (
        lambda: resrep_keras.wrap(keras.Sequential([keras.Input((3,)), layers.ReLU()])),
        ValueError,
        "no channels that can be pruned.*no such layer",
    ),
    (lambda: resrep_keras.wrap(zoo.build("vgg"), 0.5), TypeError, "pruning method such as"),
    (lambda: ResRep(0), ValueError, "target_reduction to be a number above 0 and below 1; got 0"),
    (lambda: ResRep(1), ValueError, "above 0 and below 1; got 1"),
    (lambda: ResRep(1.5), ValueError, "got 1.5"),
    (lambda: ResRep(float("nan")), ValueError, "got nan"),
    (lambda: ResRep("half"), TypeError, "a number above 0 and below 1; got 'half' of type str"),
    (lambda: ResRep(True), TypeError, "got True of type bool"),
    (lambda: ResRep(min_channels=0), ValueError, "min_channels to be an int of 1 or more; got 0"),
    (
        lambda: ResRep(min_share=1.0),
        ValueError,
        "min_share to be a number of 0 or more and below 1; got 1.0",
    ),
    (lambda: ResRep(exclude="conv"), TypeError, "list of layer names; got the str 'conv'"),
    (lambda: ResRep(compactor="none"), ValueError, "'auto', 'full' or 'diagonal'; got 'none'"),
    (lambda: ResRep(normalization="l"), ValueError, "'none', 'layer' or 'cost'; got 'l'"),
    (
        lambda: ResRep(penalty_strength=-1),
        ValueError,
        "penalty_strength to be a number of 0 or more; got -1",
    ),
    (lambda: MagnitudePruning(order=3), ValueError, "order 1 .* or 2 .*; got 3"),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg"), ResRep(0.999)),
        ValueError,
        r"target.*cannot be reached.*largest target_reduction is 0\.\d+",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg"), ResRep(exclude=("nope",))),
        ValueError,
        "got 'nope'",
    ),
    (lambda: resrep_keras.finalize(zoo.build("vgg")), ValueError, "has no compactors.*wrap"),
    (lambda: resrep_keras.finalize(None), TypeError, "Expected a keras.Model; got None"),
    (
        lambda: resrep_keras.wrap(resrep_keras.wrap(zoo.build("vgg"))),
        ValueError,
        "is wrapped already",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).compile(optimizer="sdg"),
        ValueError,
        "sdg",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).compile(keras.optimizers.SGD(use_ema=True)),
        ValueError,
        "Set use_ema=False",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).compile("sgd", lr=0.1),
        TypeError,
        "unexpected keyword argument 'lr'",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg")).fit(np.ones((4, 8, 8, 3)), np.ones(4)),
        ValueError,
        "compile",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()


class Mine(keras.Model):
    """Whatever `act` makes of the outputs of a dense layer."""

    def __init__(self, act):
        super().__init__(name="mine")
        self.dense = keras.layers.Dense(4)
        self.top = keras.layers.Dense(2)
        self.act = act

    def call(self, inputs, training=None):
        hidden = self.dense(inputs)
        if isinstance(self.act, layers.Dropout):  # Monte Carlo dropout
            return self.top(self.act(hidden, training=True))
        return self.top(self.act(hidden, training))


def test_an_unbuilt_subclassed_model_is_refused_in_words():
    with pytest.raises(ValueError, match=r"'mine' .* has no weights yet\. Call it once on a batch"):
        resrep_keras.wrap(Mine(lambda x, training: x))


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda x, training: x * 2 if training else x, "cannot be written out as a graph"),
        (lambda x, training: x * (2.0 if training else 1.0), "cannot be written out as a graph"),
        (lambda x, training: x * float(keras.ops.sum(x)), "only runs on arrays"),
        (layers.Dropout(0.5), "cannot be written out as a graph"),
    ],
    ids=["other calls in training", "other constants in training", "values", "always in training"],
)
def test_a_subclassed_model_that_is_no_graph_is_refused_in_words(act, text):
    model = Mine(act)
    model(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match=f"'mine' .* {text}"):
        resrep_keras.wrap(model)


def test_a_loss_that_call_adds_keeps_a_layer_closed():
    @keras.saving.register_keras_serializable("test_workflow")
    class Sparse(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(6)

        def call(self, inputs):
            outputs = self.dense(inputs)
            self.add_loss(keras.ops.mean(keras.ops.abs(outputs)))
            return outputs

    x = inputs = keras.Input((5,))
    x = Sparse()(keras.layers.Dense(8, activation="relu")(x))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(7)(x)))
    graph = resrep_keras.trace(model)
    assert [group.size for group in graph.groups if group.prunable] == [7]
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    wrapped(np.ones((2, 5), "float32"))
    assert len(wrapped.losses) == 1


def test_a_composite_layer_that_is_no_graph_is_pinned_not_refused():
    @keras.saving.register_keras_serializable("test_workflow")
    class Odd(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(6)

        def call(self, inputs, training=None):
            return self.dense(inputs) * (2.0 if training else 1.0)

    x = inputs = keras.Input((5,))
    x = keras.layers.Dense(8, activation="relu")(x)
    x = Odd()(keras.layers.Dense(7, activation="relu")(x))
    model = zoo.randomise(keras.Model(inputs, keras.layers.Dense(2)(x)))
    graph = resrep_keras.trace(model)
    assert [group.size for group in graph.groups if group.prunable] == [8]
    assert "Odd has no rule" in graph.groups[1].reason
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    assert helpers.difference(model, wrapped) <= 1e-6
