"""The open questions: which rule answers for a layer, and what is found out about functions."""

import functools

import keras
import pytest
from keras import layers

from resrep_keras.graph import flow as question
from resrep_keras.graph.flow import (
    activation_of,
    channel_axis,
    depends_on_channels,
    flow,
    has_rule,
    register_all,
    rule_of,
)
from resrep_keras.graph.pins import PinKind


class Base(layers.Layer):
    def call(self, inputs):
        return inputs


class Renamed(Base):
    def build(self, input_shape):
        self.built = True


class Overridden(Base):
    def call(self, inputs):
        return inputs + 1.0


class UnderOverridden(Overridden):
    pass


@pytest.fixture
def asked():
    @functools.singledispatch
    def asked(layer):
        return "unknown"

    asked.register(Base)(lambda layer: "base")
    return asked


@pytest.mark.parametrize(
    ("kind", "answer"),
    [(Base, "base"), (Renamed, "base"), (Overridden, "unknown"), (UnderOverridden, "unknown")],
)
def test_a_subclass_inherits_a_rule_unless_it_overrides_call(asked, kind, answer):
    layer = kind()
    assert rule_of(asked, layer)(layer) == answer
    assert has_rule(asked, layer) == (answer != "unknown")


def test_a_rule_of_its_own_goes_before_the_inherited_one(asked):
    asked.register(Overridden)(lambda layer: "own")
    assert rule_of(asked, Overridden())(None) == "own"
    assert rule_of(asked, UnderOverridden())(None) == "own"
    assert rule_of(asked, Base())(None) == "base"


def test_one_rule_for_several_kinds(asked):
    rule = register_all(asked, layers.ReLU, layers.Dropout)(lambda layer: "several")
    assert rule(None) == "several"
    assert rule_of(asked, layers.ReLU())(None) == rule_of(asked, layers.Dropout(0.5))(None)
    assert not has_rule(asked, layers.Dense(2))


@pytest.mark.parametrize("layer", [layers.Dense(2), layers.Conv2D(2, 3), layers.ReLU()])
def test_layers_of_keras_are_known(layer):
    assert has_rule(flow, layer)
    assert not has_rule(flow, Overridden())


# --- other questions -------------------------------------------------------------------------


def test_the_activation_of_a_wrapped_layer_is_that_of_the_layer_inside():
    assert activation_of(layers.Dense(2, activation="relu")) is keras.activations.relu
    inside = layers.TimeDistributed(layers.Dense(2, activation="tanh"))
    assert activation_of(inside) is keras.activations.tanh
    assert activation_of(layers.Flatten()) is None


def test_layers_with_weights_or_a_shape_depend_on_the_number_of_channels():
    dense = layers.Dense(2)
    dense.build((None, 3))
    assert depends_on_channels(dense)
    assert depends_on_channels(layers.Reshape((2, 2)))
    assert not depends_on_channels(layers.ReLU())


@pytest.mark.parametrize(
    ("data_format", "axes"), [("channels_last", [2, 3, 4]), ("channels_first", [1, 1, 1])]
)
def test_the_channel_axis_is_that_of_the_layer(data_format, axes):
    layer = layers.Conv2D(2, 3, data_format=data_format)
    assert [channel_axis(layer, rank) for rank in (3, 4, 5)] == axes


def test_the_answer_without_a_rule_says_what_to_register():
    told = []

    class Call:
        closed = None

        def pin_all(self, text, kind, remedy):
            told.append((text, kind))
            assert "resrep_keras.surgery.narrow.narrow.register(Base)" in remedy

    question.pin_without_rule(Base(), Call())
    text = (
        "Base has no rule for how channels pass through it; register one with "
        "resrep_keras.graph.flow.flow.register(Base)"
    )
    assert told == [(text, PinKind.NO_RULE)]
