"""Folding by hand: numbers that can be checked by eye."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.fold import fold, kernel_of
from resrep_keras.surgery.insert import insert_compactors


def wrapped_dense(diagonal=False, norm=False, activation=None):
    """Two units behind one input, a compactor, and an output that adds them."""
    x = inputs = keras.Input((1,))
    x = layers.Dense(2, name="first", activation=activation)(x)
    if norm:
        x = layers.BatchNormalization(name="norm", epsilon=0.0)(x)
    model = keras.Model(inputs, layers.Dense(1, name="last")(x))
    model.get_layer("first").set_weights([np.array([[1.0, 2.0]]), np.array([3.0, 4.0])])
    model.get_layer("last").set_weights([np.array([[1.0], [1.0]]), np.array([0.0])])
    graph = trace(model)
    sites = [site for group in graph.groups if group.prunable for site in group.sites]
    copy = insert_compactors(graph, sites, {s.name for s in sites} if diagonal else set())
    return copy, next(layer for layer in copy.layers if isinstance(layer, Compactor))


def test_a_matrix_mixes_kernel_and_bias():
    model, compactor = wrapped_dense()
    compactor.kernel.assign([[1.0, 10.0], [0.0, 1.0]])
    kernel, bias = map(ops.convert_to_numpy, fold(trace(model)).get_layer("first").weights)
    np.testing.assert_array_equal(kernel, [[1, 1 * 10 + 2]])
    np.testing.assert_array_equal(bias, [3, 3 * 10 + 4])


def test_channels_go_in_the_same_step():
    """What is kept still reads what is removed."""
    model, compactor = wrapped_dense()
    compactor.kernel.assign([[0.0, 10.0], [0.0, 1.0]])
    graph = trace(model)
    slim = fold(graph, graph.keep_array({"first": np.array([False, True])}))
    np.testing.assert_array_equal(ops.convert_to_numpy(slim.get_layer("first").kernel), [[12]])
    np.testing.assert_array_equal(ops.convert_to_numpy(slim.get_layer("last").kernel), [[1]])
    assert [layer.name for layer in slim.layers[1:]] == ["first", "last"]


def test_a_batch_normalisation_is_folded_too():
    model, compactor = wrapped_dense(norm=True)
    compactor.kernel.assign([[1.0, 1.0], [0.0, 1.0]])
    # Scale 2 / sqrt(4) = 1 and 6 / sqrt(4) = 3; offset 5 - 1 * 1 = 4 and 0 - 2 * 3 = -6.
    model.get_layer("norm").set_weights(
        [np.array(w) for w in ([2.0, 6.0], [5.0, 0.0], [1.0, 2.0], [4.0, 4.0])]
    )
    slim = fold(trace(model))
    kernel, bias = map(ops.convert_to_numpy, slim.get_layer("first").weights)
    np.testing.assert_allclose(kernel, [[1, 1 + 6]])
    np.testing.assert_allclose(bias, [3 + 4, (3 + 4) + (12 - 6)])
    assert "norm" not in {layer.name for layer in slim.layers}


@pytest.mark.parametrize("norm", [False, True], ids=["dense", "norm"])
def test_a_vector_scales_the_layer_before_it(norm):
    model, compactor = wrapped_dense(diagonal=True, norm=norm)
    compactor.kernel.assign([2.0, 0.5])
    slim = fold(trace(model))
    scaled = slim.get_layer("norm").gamma if norm else slim.get_layer("first").kernel
    np.testing.assert_allclose(np.ravel(ops.convert_to_numpy(scaled)), [2, 0.5 if norm else 1])


def test_a_full_compactor_that_is_diagonal_may_be_taken_for_a_vector():
    """The batch normalisation stays one."""
    model, compactor = wrapped_dense(norm=True)
    compactor.kernel.assign([[2.0, 0.0], [0.0, 0.5]])
    slim = fold(trace(model), vectors=True)
    np.testing.assert_allclose(ops.convert_to_numpy(slim.get_layer("norm").gamma), [2, 0.5])


def test_the_activation_comes_back():
    model, compactor = wrapped_dense(activation="tanh")
    assert compactor.activation is keras.activations.tanh
    assert model.get_layer("first").activation is keras.activations.linear
    assert fold(trace(model)).get_layer("first").activation is keras.activations.tanh


def test_kernel_of_is_a_matrix_or_a_vector():
    full, vector = Compactor(), Compactor(diagonal=True)
    for layer in (full, vector):
        layer.build((None, 4, 4, 3))
    np.testing.assert_array_equal(kernel_of(full), np.eye(3))
    np.testing.assert_array_equal(kernel_of(vector), np.ones(3))
