"""What removed channels hold where weights read them, by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.surgery.constants import read_constants
from resrep_keras.surgery.remove import remove

SECOND = {"first": np.array([False, True])}


def two_layers(activation):
    x = inputs = keras.Input((1,))
    x = layers.Dense(2, name="first", activation=activation)(x)
    model = keras.Model(inputs, layers.Dense(1, name="last", use_bias=False)(x))
    model.get_layer("first").set_weights([np.array([[1.0, 2.0]]), np.array([3.0, 4.0])])
    return model


@pytest.mark.parametrize(("activation", "expected"), [("relu", {}), ("sigmoid", {"last": 0.5})])
def test_what_an_activation_makes_of_zero(activation, expected):
    graph = trace(two_layers(activation))
    found = read_constants(graph, graph.keep_array(SECOND))
    assert {name: values[0] for name, values in found.items()} == expected


def behind_a_norm(size):
    x = inputs = keras.Input((size, size, 1))
    x = layers.Conv2D(2, 1, name="first", activation="relu")(x)
    x = layers.BatchNormalization(name="norm", epsilon=0.0)(x)
    x = layers.Activation(ops.abs)(x)
    model = keras.Model(inputs, layers.Conv2D(1, 1, name="last", use_bias=False)(x))
    # Scale 2, offset 1, mean 4, variance 4.
    model.get_layer("norm").set_weights([np.array([w, w]) for w in (2.0, 1.0, 4.0, 4.0)])
    return model


@pytest.mark.parametrize("size", [4, None], ids=["known size", "unknown size"])
def test_zero_passes_the_layers_on_its_way(size):
    """Zero behind the first layer, 1 - 4 * 2 / 2 = -3 behind the normalisation."""
    graph = trace(behind_a_norm(size))
    assert read_constants(graph, graph.keep_array(SECOND))["last"][0] == 3


def test_layers_that_tell_nothing_of_removed_channels_are_not_called():
    """What is kept may be anything: the first layer's weights, and what it reads, do not matter."""
    model = behind_a_norm(4)
    for weight in model.get_layer("first").weights:
        weight.assign(np.full(weight.shape, np.nan))
    graph = trace(model)
    assert read_constants(graph, graph.keep_array(SECOND))["last"][0] == 3


def test_one_graph_serves_several_removals():
    model = two_layers("relu")
    graph = trace(model)
    kernels = [
        ops.convert_to_numpy(remove(graph, graph.keep_array({"first": mask})).layers[1].kernel)
        for mask in (np.array([False, True]), np.array([True, False]))
    ]
    np.testing.assert_array_equal(np.ravel(kernels), [2, 1])
    np.testing.assert_array_equal(ops.convert_to_numpy(model.layers[1].kernel), [[1, 2]])
