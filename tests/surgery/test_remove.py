"""Removal by hand: what goes, and where constants go."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.surgery.constants import read_constants
from resrep_keras.surgery.remove import check_rules, remove, remove_channels

SECOND = {"first": np.array([False, True])}


def two_layers(activation):
    x = inputs = keras.Input((1,))
    x = layers.Dense(2, name="first", activation=activation)(x)
    model = keras.Model(inputs, layers.Dense(1, name="last", use_bias=False)(x))
    model.get_layer("first").set_weights([np.array([[1.0, 2.0]]), np.array([3.0, 4.0])])
    model.get_layer("last").set_weights([np.array([[6.0], [7.0]])])
    return model


def test_rows_and_columns_go():
    slim = remove_channels(two_layers("relu"), SECOND)
    first, last = slim.get_layer("first"), slim.get_layer("last")
    np.testing.assert_array_equal(ops.convert_to_numpy(first.kernel), [[2]])
    np.testing.assert_array_equal(ops.convert_to_numpy(first.bias), [4])
    np.testing.assert_array_equal(ops.convert_to_numpy(last.kernel), [[7]])
    assert not last.use_bias  # nothing to fold: a removed channel is zero behind a ReLU


def test_what_an_activation_makes_of_zero_becomes_a_bias():
    slim = remove_channels(two_layers("sigmoid"), SECOND)
    np.testing.assert_allclose(ops.convert_to_numpy(slim.get_layer("last").bias), [0.5 * 6])


@pytest.mark.parametrize(("activation", "expected"), [("relu", {}), ("sigmoid", {"last": 0.5})])
def test_constants_are_read_where_weights_read_them(activation, expected):
    graph = trace(two_layers(activation))
    found = read_constants(graph, graph.keep_array(SECOND))
    assert {name: values[0] for name, values in found.items()} == expected


def test_a_constant_passes_layers_on_its_way():
    """Zero behind the first layer, 1 - 4 = -3 behind the normalisation, 3 behind the square."""
    x = inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 1, name="first", activation="relu")(x)
    x = layers.BatchNormalization(name="norm", epsilon=0.0)(x)
    x = layers.Activation(ops.abs)(x)
    model = keras.Model(inputs, layers.Conv2D(1, 1, name="last", use_bias=False)(x))
    model.get_layer("norm").set_weights([np.array([w, w]) for w in (2.0, 1.0, 4.0, 4.0)])
    graph = trace(model)
    found = read_constants(graph, graph.keep_array(SECOND))
    assert found["last"][0] == 3


def test_one_graph_serves_several_removals():
    model = two_layers("relu")
    graph = trace(model)
    kernels = [
        ops.convert_to_numpy(remove(graph, graph.keep_array({"first": mask})).layers[1].kernel)
        for mask in (np.array([False, True]), np.array([True, False]))
    ]
    np.testing.assert_array_equal(np.ravel(kernels), [2, 1])
    np.testing.assert_array_equal(ops.convert_to_numpy(model.layers[1].kernel), [[1, 2]])


def test_rules_are_asked_for_before_training():
    graph = trace(two_layers("relu"))
    check_rules(graph, graph.groups)  # all layers have one
