"""Functions and unregistered classes in the settings of a layer are found and handed on."""

import functools

import keras
import pytest
from keras import layers, ops

from resrep_keras.surgery.own_objects import own_objects
from resrep_keras.surgery.rebuild import copy_operation


def double(x):
    return 2 * x


class Silent(keras.regularizers.Regularizer):
    def __call__(self, x):
        return ops.mean(x)


class Mean(Silent):
    def get_config(self):
        return {}


@pytest.mark.parametrize(
    "function",
    # Keras writes ops.gelu as "gelu", which is another function among its activations.
    [lambda x: -x, double, functools.partial(ops.multiply, 3.0), ops.gelu],
    ids=["lambda", "function", "partial", "of_keras"],
)
def test_the_copy_has_the_function_itself(function):
    layer = layers.Dense(2, activation=function)
    assert copy_operation(layer, {}).activation is function
    assert layer.activation is function  # as before
    cell = layers.RNN(layers.GRUCell(2, recurrent_activation=function))
    assert copy_operation(cell, {}).cell.recurrent_activation is function


def test_classes_that_are_not_registered():
    layer = layers.Dense(2, kernel_regularizer=Mean())
    assert own_objects(layer).classes == {"Mean": Mean}
    assert isinstance(copy_operation(layer, {}).kernel_regularizer, Mean)


def test_what_has_no_configuration_is_handed_on_itself():
    regularizer = Silent()
    layer = layers.Dense(2, kernel_regularizer=regularizer)
    assert copy_operation(layer, {}).kernel_regularizer is regularizer


def test_what_is_of_keras_is_left_to_keras():
    found = own_objects(layers.Dense(2, activation="relu", kernel_regularizer="l2"))
    assert not found.functions and not found.classes


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_settings_are_put_back_where_a_copy_fails():
    class Fails(layers.Dense):
        @classmethod
        def from_config(cls, config):
            raise TypeError("no")

    function = lambda x: x  # noqa: E731
    layer = Fails(2, activation=function)
    layer.build((None, 2))
    with pytest.raises(ValueError, match="no"):
        copy_operation(layer, {})
    assert layer.activation is function
