"""Pins: what a user reads of them, and where rules give their own words."""

import keras
from keras import layers

import resrep_keras
from resrep_keras.graph.flow import flow
from resrep_keras.graph.pins import Pin, PinKind
from tests import zoo


def test_each_kind_has_a_remedy_of_its_own():
    assert len({kind.value for kind in PinKind}) == len(PinKind)
    for kind in PinKind:
        assert Pin("conv", "a reason", kind).remedy == kind.value


def test_a_pin_is_a_value_that_reads_like_a_sentence():
    pin = Pin("conv", "a model input", PinKind.INPUT)
    assert str(pin) == "conv: a model input"
    assert pin == Pin("conv", "a model input", PinKind.INPUT) and len({pin, pin}) == 1
    assert Pin("conv", "a reason").kind is PinKind.OTHER
    assert Pin("conv", "a reason", own_remedy="do this").remedy == "do this"


def pins_of(*stack, shape=(8, 8, 2)):
    model = keras.Sequential([keras.Input(shape), *stack])
    return {pin.kind: pin for pin in resrep_keras.trace(model).pins}


def test_kinds_of_pins():
    """Each place that pins says of which kind it is."""
    dense = layers.Dense(2)
    assert pins_of(dense).keys() == {PinKind.OUTPUT}
    assert (
        "register(Mystery)" in pins_of(layers.Conv2D(3, 1), zoo.Mystery())[PinKind.NO_RULE].remedy
    )
    normed = pins_of(layers.Dense(4), layers.LayerNormalization(), layers.Dense(2), shape=(3,))
    assert PinKind.INEXACT in normed
    mixed = pins_of(layers.Dense(4, activation="softmax"), layers.Dense(2), shape=(3,))
    assert PinKind.MIXES in mixed
    border = pins_of(
        layers.Conv2D(4, 3, activation="softplus"), layers.Conv2D(4, 3, padding="same")
    )
    assert PinKind.NO_BIAS in border
    open_size = pins_of(layers.Conv2D(4, 3), layers.Flatten(), shape=(None, None, 2))
    assert PinKind.UNKNOWN_SIZE in open_size
    units = pins_of(layers.LSTM(4, return_sequences=True), layers.LSTM(2), shape=(3, 2))
    assert units.keys() == {PinKind.OUTPUT}


def test_inputs_sums_and_stateful_layers_pin():
    inputs = keras.Input((4, 4, 3))
    x = layers.Add()([inputs, layers.Conv2D(3, 3, padding="same")(inputs)])
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    assert graph.groups[0].reason.kind is PinKind.INPUT
    sequence = keras.Input(batch_shape=(2, 3, 2))
    y = layers.Dense(2)(layers.LSTM(4, stateful=True)(sequence))
    graph = resrep_keras.trace(keras.Model(sequence, y))
    assert graph.groups[0].reason.kind is PinKind.STATEFUL


def test_a_rule_from_outside_gives_its_own_words():
    class Shuffled(layers.Layer):
        def call(self, inputs):
            return inputs[..., ::-1]

        def compute_output_shape(self, input_shape):
            return input_shape

    @flow.register(Shuffled)
    def _(layer, call):
        return call.pin_all("a layer of my own that reverses channels", remedy="leave it out.")

    stack = layers.Dense(4), Shuffled(), layers.Dense(2)
    pin = pins_of(*stack, shape=(3,))[PinKind.OTHER]
    assert pin.text == "a layer of my own that reverses channels"
    assert pin.remedy == "leave it out."
    row, _ = resrep_keras.explain(keras.Sequential([keras.Input((3,)), *stack])).rows
    assert row.pin == pin and row.remedy == "leave it out."
