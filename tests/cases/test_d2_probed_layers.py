"""What nobody has registered a rule for is tried before its channels are pinned."""

import random

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.flow import flow
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.trace import recording_of, trace_recording
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo

register = keras.saving.register_keras_serializable("test_d2")


@register
class Swish(layers.Layer):
    def call(self, x):
        return x * ops.sigmoid(x)


@register
class DropPath(layers.Layer):
    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x, training=None):
        if not training:
            return x
        shape = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        kept = ops.floor(1.0 - self.rate + keras.random.uniform(shape, seed=self.seeds))
        return x / (1.0 - self.rate) * kept


@register
class ChannelNoise(layers.Layer):
    """Draws other numbers for fewer channels."""

    def __init__(self, deviation=0.1, **kwargs):
        super().__init__(**kwargs)
        self.deviation = deviation
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x, training=None):
        if not training:
            return x
        return x * keras.random.normal(x.shape[-1:], 1.0, self.deviation, seed=self.seeds)


@register
class MixesInTraining(layers.Layer):
    def call(self, x, training=None):
        return x - ops.mean(x, -1, keepdims=True) if training else x


@register
class Shuffle(layers.Layer):
    def call(self, x):
        pairs = ops.reshape(x, (-1, *x.shape[1:-1], 2, x.shape[-1] // 2))
        return ops.reshape(ops.swapaxes(pairs, -1, -2), (-1, *x.shape[1:]))


@register
class AddCoordinates(layers.Layer):
    """CoordConv: two more channels that say where a position is."""

    def call(self, x):
        shape = (ops.shape(x)[0], *x.shape[1:-1], 1)
        rows = ops.reshape(ops.linspace(-1.0, 1.0, x.shape[1]), (1, -1, 1, 1))
        columns = ops.reshape(ops.linspace(-1.0, 1.0, x.shape[2]), (1, 1, -1, 1))
        return ops.concatenate([x, ops.zeros(shape) + rows, ops.zeros(shape) + columns], -1)


@register
class LearnableAffine(layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.offset = self.add_weight(shape=(), initializer="zeros", name="offset")

    def call(self, x):
        return self.scale * x + self.offset


@register
class LayerScale(layers.Layer):
    """As in ConvNeXt; it is told how many channels there are."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(self.dim,), initializer="ones", name="gamma")

    def call(self, x):
        return x * self.gamma

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


@register
class Linear(layers.Layer):
    """The layer of the guides of Keras."""

    def __init__(self, units, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def call(self, x):
        return self.activation(ops.matmul(x, self.w) + self.b)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "units": self.units, "activation": activation}


@register
class Convolution(layers.Layer):
    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        shape = (3, 3, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, name="kernel")

    def call(self, x):
        return ops.conv(x, self.kernel, padding="same")

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@register
class GRN(layers.Layer):
    """Global response normalisation: divides by a mean over channels."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=input_shape[-1:], initializer="ones", name="gamma")

    def call(self, x):
        norm = ops.sqrt(ops.sum(ops.square(x), (1, 2), keepdims=True) + 1e-9)
        return x + x * norm / (ops.mean(norm, -1, keepdims=True) + 1e-6) * self.gamma


@register
class ChannelNorm(layers.Layer):
    """Divides by a sum over channels, to which zeros add nothing."""

    def call(self, x):
        return x / ops.sqrt(ops.sum(ops.square(x), -1, keepdims=True) + 1e-3)


@register
class SimAM(layers.Layer):
    """Attention without parameters: statistics of each channel alone."""

    def call(self, x):
        squares = ops.square(x - ops.mean(x, (1, 2), keepdims=True))
        energy = squares / (4.0 * (ops.mean(squares, (1, 2), keepdims=True) + 1e-4)) + 0.5
        return x * ops.sigmoid(energy)


@register
class Centred(layers.Layer):
    def call(self, x):
        return x * ops.sigmoid(x - ops.mean(x, -1, keepdims=True))


def net(layer, padding="valid"):
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", name="before")(x)
    x = layers.BatchNormalization()(layer(x))
    x = layers.Conv2D(6, 3, padding=padding, activation="relu", name="behind")(x)
    x = layers.Dense(3, name="outputs")(layers.GlobalAveragePooling2D()(x))
    return zoo.randomise(keras.Model(inputs, x), 0)


def check_exact(model, **settings):
    """The slim model is the wrapped one, whatever goes, and multiplies as often as predicted."""
    method = resrep_keras.ResRep(0.01, coupled=True, **settings)
    wrapped = resrep_keras.wrap(model, method)
    state = ChannelState(wrapped)
    kept = helpers.random_keep(state.graph, state.groups, seed=1)
    state.set_masks(kept)
    generator = np.random.default_rng(0)
    for layer, _ in state.compactors:
        noise = generator.normal(0.0, 0.3, layer.kernel.shape)
        mask = ops.convert_to_numpy(layer.keep_mask)
        layer.kernel.assign((ops.convert_to_numpy(layer.kernel) + noise) * mask)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-4
    assert resrep_keras.count_macs(slim) == slim.certificate.macs_slim
    assert slim.count_params() < model.count_params()
    return slim


PASSES = {
    "swish": Swish,
    "drop path": DropPath,
    "noise": ChannelNoise,
    "coordinates": AddCoordinates,
    "affine": LearnableAffine,
    "layer scale": lambda **kwargs: LayerScale(8, **kwargs),
    "resizing": lambda **kwargs: layers.Resizing(5, 4, **kwargs),
    "lambda": lambda **kwargs: layers.Lambda(lambda x: 2.0 * x, **kwargs),
    "channel norm": ChannelNorm,
    "SimAM": SimAM,
    "linear": lambda **kwargs: Linear(5, **kwargs),
    "linear, as wide": lambda **kwargs: Linear(8, "relu", **kwargs),
    "convolution": lambda **kwargs: Convolution(7, **kwargs),
}
JAX = keras.backend.backend() == "jax"  # it sees wrong sizes while a copy is made
UNKNOWN = "ignore:The MACs of these layers are not known"


@pytest.mark.filterwarnings(UNKNOWN)
@pytest.mark.parametrize("name", PASSES)
def test_what_passes_is_used_and_said_to_be_probed(name):
    model = net(PASSES[name](name="own"))
    explanation = resrep_keras.explain(model)
    found = {row.layer: row for row in explanation.rows}
    for row in found.values():
        assert row.status == ("pinned" if row.layer == "outputs" else "prunable")
    assert found["before"].probed == ("own",) and found["behind"].probed == ()
    assert ("own" in found) == (name in ("linear", "linear, as wide", "convolution"))
    assert explanation.totals.probed == sum(row.prunable for row in found.values() if row.probed)
    assert "probed: own" in str(explanation) and "were probed" in " ".join(str(explanation).split())
    check_exact(model)


@pytest.mark.filterwarnings(UNKNOWN)
@pytest.mark.parametrize("name", ["affine", "layer scale", "linear", "convolution"])
def test_in_front_of_a_border_and_with_factors_alone(name):
    check_exact(net(PASSES[name](name="own"), padding="same"), compactor="diagonal")


FAILS = {
    "shuffle": (
        Shuffle,
        "before it raises" if JAX else "before and behind it gives other values: they depend on",
    ),
    "centred": (Centred, "before and behind it gives other values"),
    "GRN": (GRN, "before and behind it gives other values"),
    "in training": (MixesInTraining, "before and behind it gives other values in training"),
    "its width": (
        lambda **kwargs: layers.Lambda(lambda x: ops.reshape(x, (-1, 6, 6, 8)), **kwargs),
        "before it raises" if JAX else "before it gives other values, also where all others are",
    ),
}


@pytest.mark.filterwarnings(UNKNOWN)
@pytest.mark.parametrize("name", FAILS)
def test_what_fails_is_pinned_with_what_was_tried(name):
    make, text = FAILS[name]
    model = net(make(name="own"))
    graph = tried(model)
    (pin,) = (pin for pin in graph.pins if pin.layer == "own")
    assert pin.kind is PinKind.NO_RULE
    assert f"tried on arrays, choosing channels {text}" in pin.text
    assert [int((~group.pinned).sum()) for group in graph.groups] == [0, 6, 0]
    assert resrep_keras.explain(model).totals.probed == 0
    check_exact(model)


def tried(model):
    """The graph in which no layer is opened for want of passing."""
    return trace_recording(recording_of(model))


def test_an_error_of_the_trial_is_no_statement_about_the_layer():
    class Picky(layers.Layer):
        def call(self, x):
            if not isinstance(x, keras.KerasTensor) and x.shape[0] == 2:
                raise LookupError("two examples are one too many")
            return x

        def compute_output_shape(self, input_shape):
            return input_shape

    graph = tried(net(Picky(name="own")))
    (pin,) = (pin for pin in graph.pins if pin.layer == "own")
    assert pin.kind is PinKind.UNTRIED
    assert "it could not be tried on arrays: LookupError: two examples are one too many" in pin.text


def test_a_registered_rule_goes_first():
    class Known(Swish):
        def call(self, x):
            return super().call(x)

    @flow.register(Known)
    def _(layer, call):
        return call.pin_all("as I say")

    graph = resrep_keras.trace(net(Known(name="own")))
    assert [pin.text for pin in graph.pins if pin.layer == "own"] == ["as I say"]
    assert not any(call.found for call in graph.calls)


def test_a_layer_that_is_tried_is_left_as_it_is():
    class Noisy(ChannelNoise):
        def build(self, input_shape):
            self.count = self.add_weight(shape=(), trainable=False, name="count")
            self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", name="scale")

        def call(self, x, training=None):
            self.add_loss(ops.sum(self.scale))
            self.count.assign(self.count + 1.0)
            # JAX takes no random numbers without a seed of the layer's own.
            seed = self.seeds if JAX else None
            return self.scale * super().call(x, training) * keras.random.uniform((), seed=seed)

    keras.utils.set_random_seed(0)
    model = net(Noisy(name="own"))
    layer = model.get_layer("own")

    def state():
        variables = [
            ops.convert_to_numpy(v).tolist() for v in (*layer.variables, layer.seeds.state)
        ]
        return variables, layer.built, len(layer.losses), dict(vars(layer)), random.getstate()

    layers.Dense(1)
    number = int(layers.Dense(1).name.rpartition("_")[2])
    before, numpy = state(), np.random.get_state()[1].tolist()
    resrep_keras.explain(model)
    assert state() == before and np.random.get_state()[1].tolist() == numpy
    assert layers.Dense(1).name == f"dense_{number + 1}"
    drawn = float(keras.random.uniform(()))
    keras.utils.set_random_seed(0)
    net(Noisy(name="own"))
    for _ in range(3):
        layers.Dense(1)
    assert float(keras.random.uniform(())) == drawn


# --- several inputs, outputs and calls ------------------------------------------------------------


@register
class Sum(layers.Layer):
    def call(self, inputs):
        first, second = inputs
        return first + 0.5 * second


@register
class Gate(layers.Layer):
    """A vector for each example scales a picture."""

    def call(self, x, gate):
        return x * gate[:, None, None, :]


@register
class Halves(layers.Layer):
    def call(self, x):
        return ops.relu(x), ops.relu(-x)


def two_inputs(join):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    y = layers.Conv2D(8, 3, activation="relu", name="second")(inputs)
    x = layers.Conv2D(4, 3, name="behind")(join(x, y))
    return zoo.randomise(
        keras.Model(inputs, layers.Dense(2, name="outputs")(layers.GlobalMaxPooling2D()(x))), 0
    )


def statuses(model):
    return {row.layer: row.status for row in resrep_keras.explain(model).rows}


def test_a_sum_couples_its_inputs():
    model = two_inputs(lambda x, y: Sum(name="own")([x, y]))
    assert statuses(model)["first"] == statuses(model)["second"] == "coupled"
    check_exact(model)


def test_a_gate_follows_what_it_scales():
    def join(x, y):
        return Gate(name="own")(x, layers.GlobalAveragePooling2D()(y))

    model = two_inputs(join)
    assert statuses(model)["first"] == "prunable" and statuses(model)["second"] == "follows"
    check_exact(model)


def test_several_outputs():
    def join(x, y):
        first, second = Halves(name="own")(layers.Add()([x, y]))
        return layers.Concatenate()([first, second])

    model = two_inputs(join)
    assert statuses(model)["first"] == "coupled"
    check_exact(model)


def test_a_shared_layer_and_one_inside_of_a_repetition():
    inputs = keras.Input((5, 6))
    shared = Linear(8, name="shared")
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    y = layers.Dense(8, activation="relu", name="second")(inputs)
    x = layers.Concatenate()([shared(x), shared(y)])
    x = layers.TimeDistributed(Linear(7, name="inside"), name="repeated")(x)
    model = keras.Model(inputs, layers.Dense(2, name="outputs")(layers.Flatten()(x)))
    found = statuses(zoo.randomise(model, 0))
    assert found["first"] == found["second"] == "coupled" and found["shared"] == "prunable"
    assert found["inside"] == "prunable"
    check_exact(model)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_precision_and_unknown_sizes(dtype):
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, dtype=dtype, name="first")(inputs)
    x = Convolution(6, dtype=dtype, name="second")(Swish(dtype=dtype)(x))
    x = layers.Dense(2, name="outputs", dtype="float32")(layers.GlobalMaxPooling2D()(x))
    found = statuses(keras.Model(inputs, x))
    assert found == {"first": "prunable", "second": "prunable", "outputs": "pinned"}


def test_a_copy_that_is_another_layer_is_found_out():
    class Forgets(layers.Layer):
        def __init__(self, factor=1.0, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def build(self, input_shape):
            self.scale = self.add_weight(shape=input_shape[-1:], name="scale")

        def call(self, x):
            return x * self.scale * self.factor

        def get_config(self):
            return super().get_config()

    model = net(Forgets(2.0, name="own"))
    (pin,) = (pin for pin in tried(model).pins if pin.layer == "own")
    assert "gives other values" in pin.text


@register
class Positions(layers.Layer):
    """A matrix of constants mixes positions: the more channels, the more it multiplies."""

    def call(self, x):
        rows = ops.reshape(x, (-1, 36, x.shape[-1]))
        mixed = ops.matmul(ops.ones((36, 36)) / 36.0, rows)
        return ops.reshape(mixed, (-1, 6, 6, x.shape[-1]))


@register
class Gram(layers.Layer):
    """Multiplies each channel with each other one, for nothing."""

    def call(self, x):
        rows = ops.reshape(x, (-1, 36, x.shape[-1]))
        return x + 0.0 * ops.sum(ops.matmul(ops.swapaxes(rows, 1, 2), rows))


@register
class Features(layers.Layer):
    """Is told what it reads, and has its matrix the other way round."""

    def __init__(self, in_features, out_features, **kwargs):
        super().__init__(**kwargs)
        self.sizes = in_features, out_features
        self.weight = self.add_weight(shape=self.sizes[::-1], name="weight")

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.weight))

    def get_config(self):
        return {**super().get_config(), **dict(zip(("in_features", "out_features"), self.sizes))}


@register
class Standardised(layers.Layer):
    """Each filter has its own mean and deviation, over what it reads."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters

    def build(self, input_shape):
        shape = (3, 3, input_shape[-1], self.filters)
        self.raw = self.add_weight(shape=shape, name="raw")
        self.gain = self.add_weight(shape=(self.filters,), initializer="ones", name="gain")

    def call(self, x):
        mean = ops.mean(self.raw * 1.0, (0, 1, 2), keepdims=True)
        squares = ops.mean(ops.square(self.raw - mean), (0, 1, 2), keepdims=True)
        return ops.conv(x, (self.raw - mean) * ops.rsqrt(squares + 1e-5) * self.gain)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def test_macs_fall_as_predicted_or_channels_stay():
    model = net(Positions(name="own"))
    conv = 36 * 9 * (3 * 8) + 16 * 9 * (8 * 6) + 6 * 3
    assert resrep_keras.count_macs(model) == conv + 36 * 36 * 8
    check_exact(model)
    graph = resrep_keras.trace(net(Gram(name="own")))
    (pin,) = (pin for pin in graph.pins if pin.layer == "own")
    slope = 36 * (8 * 8 - 4 * 4) // (8 - 4)
    line = 36 * 8 * 8 - slope * 1
    assert f"in a way that is not predicted: {36 * 7 * 7:,} of a copy, and not {line:,}" in pin.text


@pytest.mark.parametrize("kind", [Features, Standardised])
def test_weights_that_are_not_what_is_multiplied(kind):
    model = net(kind(8, 12, name="own") if kind is Features else kind(12, name="own"))
    found = statuses(model)
    assert found["own"] == "prunable"
    assert found["before"] == ("prunable" if kind is Features else "pinned")
    (site,) = (s for g in resrep_keras.trace(model).groups for s in g.sites if s.layer == "own")
    assert site.diagonal is (kind is Standardised)
    check_exact(model)
    scores = resrep_keras.MagnitudePruning(0.1).prune(model).certificate
    assert scores.max_relative <= 1e-4


def test_no_application_is_tried():
    model = keras.applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3))
    assert not any(call.found for call in resrep_keras.trace(model).calls)


# --- code that raises -----------------------------------------------------------------------------


class Raises(layers.Layer):
    """Raises at one place, which is named."""

    def __init__(self, where, **kwargs):
        super().__init__(**kwargs)
        self.where = where

    def build(self, input_shape):
        self.width = input_shape[-1]
        self.scale = self.add_weight(shape=input_shape[-1:], initializer="ones", name="scale")

    def call(self, x, training=None):
        on_arrays = keras.ops.is_tensor(x) and x.shape[0] is not None
        if self.where == "narrower" and on_arrays and self.width < 8:
            raise LookupError("a copy is too narrow")
        if self.where == "training" and training and on_arrays:
            raise LookupError("not in training")
        if self.where == "zeros" and on_arrays and bool(ops.any(x == 0.0)):
            raise LookupError("there are zeros")
        return x * self.scale

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        if self.where == "get_config":
            raise AttributeError("no such setting")
        return {**super().get_config(), "where": self.where}


def test_a_configuration_that_raises_ends_nothing():
    explanation = resrep_keras.explain(net(Raises("get_config", name="own")))
    assert {"before", "behind", "outputs"} <= {row.layer for row in explanation.rows}


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("narrower", "LookupError: a copy is too narrow"),
        ("training", "LookupError: not in training"),
        ("zeros", "LookupError: there are zeros"),
    ],
)
@pytest.mark.skipif(JAX, reason="symbolic tensors have sizes there")
def test_what_raises_in_a_trial_is_told_and_ends_nothing(where, text):
    graph = tried(net(Raises(where, name="own")))
    (pin,) = (pin for pin in graph.pins if pin.layer == "own")
    assert text in pin.text and pin.kind in (PinKind.NO_RULE, PinKind.UNTRIED)
    assert [int((~group.pinned).sum()) for group in graph.groups] == [0, 6, 0]
