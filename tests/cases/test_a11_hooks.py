"""A rule is inherited only where nothing that it relies on is another's: hook, part or weight."""

import types

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.flow import flow, has_rule
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.record import inner_layer
from resrep_keras.graph.trace import trace
from resrep_keras.graph.unroll import is_graph
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo


class Standardised(layers.Conv2D):
    """The hook that Keras documents."""

    def convolution_op(self, inputs, kernel):
        kernel = ops.convert_to_tensor(kernel)  # JAX takes no variable in `moments`
        mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-5))


class Doubled(layers.MultiHeadAttention):
    def _compute_attention(self, query, key, value, *args, **kwargs):
        outputs, scores = super()._compute_attention(query, key, value, *args, **kwargs)
        return 2.0 * outputs + ops.mean(outputs, axis=-1, keepdims=True), scores


class UnitNorm(layers.Dense):
    @property
    def kernel(self):
        kernel = super().kernel
        return kernel / ops.sqrt(1e-6 + ops.sum(ops.square(kernel), axis=0, keepdims=True))


class Positive(layers.BatchNormalization):
    """`gamma` is no function of its base, but its `call` reads it."""

    @property
    def gamma(self):
        raw = vars(self).get("_raw")
        return raw if raw is None else ops.softplus(raw) / ops.sum(ops.softplus(raw))

    @gamma.setter
    def gamma(self, value):
        self._raw = value


class Called(layers.Dense):
    def __call__(self, *args, **kwargs):
        return ops.softmax(super().__call__(*args, **kwargs))


class Mixin:
    def convolution_op(self, inputs, kernel):
        return ops.flip(super().convolution_op(inputs, kernel), -1)


class Mixed(Mixin, layers.Conv2D):
    pass


class Weighted(layers.Dense):
    """Weights that the rule does not know, although nothing is computed with them."""

    def build(self, input_shape):
        super().build(input_shape)
        self.temperature = self.add_weight(shape=(self.units,), name="temperature")


class StartsAtOne(layers.GRU):
    def get_initial_state(self, batch_size):
        return [ops.ones_like(each) for each in super().get_initial_state(batch_size)]


class OtherCell(layers.LSTMCell):
    def call(self, inputs, states, training=False):
        outputs, states = super().call(inputs, states, training)
        return outputs[:, ::-1], states


class Repeated(layers.TimeDistributed):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask)[..., ::-1]


def with_other_cell():
    layer = layers.LSTM(8, return_sequences=True, name="changed")
    layer.cell = OtherCell(8)
    return layer


def with_own_function(layer, name, function):
    setattr(layer, name, types.MethodType(function, layer))
    return layer


def image(layer):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="before")(inputs)
    x = layers.Conv2D(8, 3, activation="relu", name="behind")(layer(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def sequence(layer):
    inputs = keras.Input((6, 5))
    x = layers.Dense(8, activation="relu", name="before")(inputs)
    x = layer(x, x) if isinstance(layer, layers.MultiHeadAttention) else layer(x)
    x = layers.Dense(8, activation="relu", name="behind")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


# A net with the layer, and what the reason says of it.
CHANGED = {
    "convolution_op": (
        lambda: image(Standardised(8, 3, name="changed")),
        "it overrides convolution_op, on which the rule of Conv2D relies",
    ),
    "kernel": (lambda: sequence(UnitNorm(8, name="changed")), "it overrides kernel"),
    "gamma": (lambda: image(Positive(name="changed")), "it overrides gamma"),
}

# Nets in which trying the layer shows that channels in front of it, where they are zero, may go.
TRIED = {
    "mixin": lambda: image(Mixed(8, 3, name="changed")),
    "weights": lambda: sequence(Weighted(8, name="changed")),
    "initial state": lambda: sequence(StartsAtOne(8, return_sequences=True, name="changed")),
}


def test_attention_with_scores_of_ones_own_is_opened():
    model = zoo.randomise(sequence(Doubled(2, 4, name="changed")), 0)
    assert "changed" not in [call.name for call in trace(model).calls]
    check_exact(model)


@pytest.mark.filterwarnings("ignore:The MACs of these layers are not known")
@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_layer_keeps_its_channels_and_says_why(name):
    build, text = CHANGED[name]
    model = build()
    zoo.randomise(model, 0)
    graph = trace(model)
    kinds = PinKind.NO_RULE, PinKind.UNTRIED  # JAX runs some of them in compiled steps only
    pins = [pin for pin in graph.pins if pin.kind in kinds]
    assert [text in str(pin) for pin in pins] == [True]
    for group in graph.groups:
        if group.name == "before":  # which it reads
            assert not group.prunable
    assert any(group.prunable for group in graph.groups if group.name == "behind")
    remedy = (
        "Register what" if "Repeated" in text else "Put what is changed into a layer of its own"
    )
    assert remedy in pins[0].remedy
    check_exact(model)


@pytest.mark.filterwarnings("ignore:The MACs of these layers are not known")
@pytest.mark.parametrize("name", TRIED)
def test_a_changed_layer_inherits_nothing_and_is_tried(name):
    model = TRIED[name]()
    zoo.randomise(model, 0)
    graph = trace(model)
    assert not has_rule(flow, model.get_layer("changed"))
    prunable = {group.name: group.prunable for group in graph.groups}
    assert prunable["before"] and prunable["behind"]
    # Flipped outputs, and gates of which there are three to a unit, stay.
    assert prunable.get("changed", False) is (name == "weights")
    check_exact(model)


def check_exact(model):
    wrapped = resrep_keras.wrap(model, resrep_keras.MagnitudePruning(0.02))
    state = ChannelState(wrapped)
    helpers.kill(wrapped, helpers.random_keep(state.graph, state.groups, seed=1), state)
    x = helpers.example_inputs(model, 4)
    expected = ops.convert_to_numpy(wrapped(x))
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.count_params() < model.count_params()
    np.testing.assert_allclose(slim(x), expected, atol=1e-5)


def test_a_time_distributed_with_a_call_of_its_own_is_no_repetition():
    assert inner_layer(layers.TimeDistributed(layers.Dense(8))) is not None
    assert inner_layer(Repeated(layers.Dense(8))) is None


# --- objects --------------------------------------------------------------------------------------


def test_what_is_set_on_an_object_is_seen():
    layer = layers.Conv2D(8, 3)
    assert has_rule(flow, layer)
    with_own_function(layer, "convolution_op", lambda self, x, kernel: x)
    assert not has_rule(flow, layer)
    assert not has_rule(flow, Called(8))
    lstm = layers.LSTM(4)
    assert has_rule(flow, lstm)
    with_own_function(lstm.cell, "call", lambda self, *args, **kwargs: None)
    assert not has_rule(flow, lstm)
    assert not has_rule(flow, with_other_cell())


def test_a_copy_would_lose_it_so_that_it_is_refused():
    layer = layers.Conv2D(8, 3, name="changed")
    with_own_function(layer, "call", lambda self, x: 2.0 * layers.Conv2D.call(self, x))
    model = image(layer)
    with pytest.raises(ValueError, match=r"'changed' .* call set on .* subclass"):
        resrep_keras.wrap(model, resrep_keras.MagnitudePruning(0.02))


@pytest.mark.parametrize("where", ["class", "object"])
def test_a_model_with_a_call_of_its_own_is_no_graph(where):
    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Dense(8, activation="relu")(inputs))

    class Own(keras.Model):
        def __call__(self, *args, **kwargs):
            return 3.0 * super().__call__(*args, **kwargs)

    model = (Own if where == "class" else keras.Model)(inputs, outputs)
    if where == "object":
        assert is_graph(model)
        with_own_function(model, "call", lambda self, x: 3.0 * x)
    assert not is_graph(model)


# --- what inherits --------------------------------------------------------------------------------


class Named(layers.Conv2D):
    """Other defaults, a configuration and a description of its own."""

    def __init__(self, filters, note="none", **kwargs):
        super().__init__(filters, 3, padding="same", **kwargs)
        self.note = note

    def build(self, input_shape):
        super().build(input_shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def describe(self):
        return f"{self.filters} filters"

    def get_config(self):
        config = super().get_config()
        left = {"kernel_size", "padding", "strides", "dilation_rate", "groups"}
        return {"note": self.note, **{k: v for k, v in config.items() if k not in left}}


class Scaled(layers.Dense):
    def __init__(self, units, **kwargs):
        super().__init__(units, kernel_initializer="he_normal", **kwargs)

    @classmethod
    def from_config(cls, config):
        config.pop("kernel_initializer")
        return cls(**config)


class Plain(layers.LSTM):
    pass


@pytest.mark.parametrize("layer", [Named(8), Scaled(8), Plain(8)])
def test_a_harmless_subclass_inherits_every_rule(layer):
    assert has_rule(flow, layer)


def test_a_harmless_subclass_is_pruned_exactly():
    model = image(Named(8, note="mine", name="changed"))
    zoo.randomise(model, 0)
    assert any(g.prunable for g in trace(model).groups if g.name == "changed")
    check_exact(model)
