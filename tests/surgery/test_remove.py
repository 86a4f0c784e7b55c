"""The smaller model, by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.surgery.remove import check_rules, remove_channels


@pytest.fixture
def model():
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="top")(hidden))
    model.get_layer("hidden").set_weights(
        [np.array([[1.0, 2, 3], [4, 5, 6]]), np.array([0.1, 0.2, 0.3])]
    )
    model.get_layer("top").set_weights([np.array([[1.0], [10], [100]]), np.array([0.5])])
    return model


def weights(model, name):
    return [ops.convert_to_numpy(w).tolist() for w in model.get_layer(name).weights]


def test_weights_of_removed_channels_go_on_both_sides(model):
    slim = remove_channels(model, {"hidden": np.array([True, False, True])})
    kernel, bias = weights(slim, "hidden")
    assert kernel == [[1, 3], [4, 6]] and np.allclose(bias, [0.1, 0.3])
    assert weights(slim, "top") == [[[1.0], [100.0]], [0.5]]
    assert slim.get_layer("hidden").units == 2
    assert model.get_layer("hidden").units == 3  # left as it is


def test_removing_twice_is_removing_the_union(model):
    once = remove_channels(model, {"hidden": np.array([False, False, True])})
    first = remove_channels(model, {"hidden": np.array([False, True, True])})
    twice = remove_channels(first, {"hidden": np.array([False, True])})
    assert [weights(once, n) for n in ("hidden", "top")] == [
        weights(twice, n) for n in ("hidden", "top")
    ]


def test_what_an_activation_makes_of_zero_goes_into_the_bias():
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, activation="sigmoid", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="top")(hidden))
    model.get_layer("top").set_weights([np.array([[1.0], [10], [100]]), np.array([0.5])])
    slim = remove_channels(model, {"hidden": np.array([True, False, True])})
    kernel, bias = weights(slim, "top")
    assert kernel == [[1.0], [100.0]] and np.allclose(bias, 0.5 + 10 * 0.5)  # sigmoid(0) = 1/2


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        ({"hidden": np.zeros(3, bool)}, "removes all 3 channels"),
        ({"top": np.zeros(1, bool)}, "'top' has pinned channels"),
        ({"hidden": np.ones(2, bool)}, "bool array of shape"),
        ({"nobody": np.ones(2, bool)}, "got 'nobody'"),
    ],
)
def test_masks_that_do_not_fit(model, keep, text):
    with pytest.raises(ValueError, match=text):
        remove_channels(model, keep)


def test_rules_are_asked_for_where_channels_may_go(model):
    graph = resrep_keras.trace(model)
    check_rules(graph, graph.groups)
