"""Two models are compared on random inputs, and call by call where their outputs differ."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.agreement import check_copy
from resrep_keras.surgery.rebuild import rebuild


def net():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="last")(x), name="net")


def test_a_copy_passes():
    model = net()
    check_copy(model, rebuild(recording_of(model)))


@pytest.mark.parametrize("name", ["first", "last"])
def test_the_first_layer_that_differs_is_named(name):
    model = net()
    copy = rebuild(recording_of(model))
    copy.get_layer(name).bias.assign(copy.get_layer(name).bias + 1.0)
    with pytest.raises(ValueError, match=f"part first at layer '{name}' of type Dense, by "):
        check_copy(model, copy)


def test_values_that_are_no_numbers_differ():
    model = net()
    copy = rebuild(recording_of(model))
    copy.get_layer("last").bias.assign([0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match=r"part first at layer 'last'.*by inf"):
        check_copy(model, copy)
    model.get_layer("last").bias.assign([0.0, np.nan, 0.0])
    check_copy(model, copy)


def test_equal_layers_in_another_order_are_told():
    model = net()
    copy = rebuild(recording_of(model))
    x = copy.get_layer("first")(copy.input)
    swapped = keras.Model(copy.input, -copy.get_layer("last")(x), name="net")
    with pytest.raises(ValueError, match="though each layer does the same as its copy"):
        check_copy(model, swapped)


def test_a_setting_that_acts_in_training_only():
    class Noisy(layers.Layer):
        def __init__(self, rate=0.5, **kwargs):
            super().__init__(**kwargs)
            self.rate = rate

        def call(self, x):
            return x * 1.0

    def make(rate):
        inputs = keras.Input((6,))
        return keras.Model(inputs, Noisy(rate, name="noisy")(inputs))

    check_copy(make(0.1), make(0.1))
    with pytest.raises(ValueError, match=r"'noisy' of type Noisy has rate=0.1, and its copy"):
        check_copy(make(0.1), make(0.2))
