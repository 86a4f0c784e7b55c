"""Channels of zero weights: which go, by hand; whole models in methods/sparse/test_granet.py."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.surgery.zero_channels import without_zero_channels
from tests import helpers


def net(bias, activation="relu"):
    x = inputs = keras.Input((1,))
    x = layers.Dense(2, name="first", activation=activation)(x)
    model = keras.Model(inputs, layers.Dense(1, name="last")(x))
    model.get_layer("first").set_weights([np.array([[0.0, 2.0]]), np.array([bias, 4.0])])
    model.get_layer("last").set_weights([np.array([[6.0], [7.0]]), np.array([1.0])])
    return model


@pytest.mark.parametrize(
    ("bias", "activation", "expected"),
    [
        (0.0, "relu", 1),
        (-5.0, "relu", 1),  # nothing is left behind the ReLU
        (0.5, "relu", 1 + 6 * 0.5),
        (0.0, "sigmoid", 1 + 6 * 0.5),
        (0.0, "exponential", 1 + 6 * 1),
    ],
)
def test_what_a_channel_holds_goes_into_the_next_bias(bias, activation, expected):
    slim = helpers.remove_zero_channels(net(bias, activation))
    np.testing.assert_array_equal(ops.convert_to_numpy(slim.get_layer("first").kernel), [[2]])
    np.testing.assert_allclose(ops.convert_to_numpy(slim.get_layer("last").bias), [expected])


def test_nothing_goes_where_no_weights_are_zero():
    model = net(0.0)
    model.get_layer("first").kernel.assign([[1.0, 2.0]])
    assert without_zero_channels(trace(model)) is None
    assert helpers.remove_zero_channels(model) is model


def test_units_that_are_one_channel_are_all_zero_or_stay():
    inputs = keras.Input((2,))
    x = layers.Reshape((2, 3))(layers.Dense(6, name="first", activation="relu")(inputs))
    x = layers.Flatten()(layers.Conv1D(2, 1)(x))
    model = keras.Model(inputs, layers.Dense(1)(x))
    kernel = np.ones((2, 6))
    kernel[:, [1, 3, 4]] = 0  # both units of the second channel, one of the first
    model.get_layer("first").set_weights([kernel, np.zeros(6)])
    slim = helpers.remove_zero_channels(model)
    assert slim.get_layer("first").units == 4
    assert helpers.difference(model, slim) < 1e-6
