"""Peak activation memory, by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.costs.activations import ActivationCost, runs_in_place
from resrep_keras.graph.flow import rule_of


def peak(inputs, outputs, keep=None):
    graph = resrep_keras.trace(keras.Model(inputs, outputs))
    return ActivationCost(graph)(None if keep is None else graph.keep_array(keep))


def test_activation_memory_by_hand():
    """Two branches of a residual block: 4-byte values alive while the second convolution runs."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same")(inputs)
    x = layers.ReLU()(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Add()([inputs, x])
    # Input, hidden map (the activation runs in place), output of the second convolution.
    assert peak(inputs, x) == 4 * 64 * (4 + 6 + 4)


def test_a_chain_needs_the_largest_pair_of_neighbours():
    x = inputs = keras.Input((10,))
    for units in (20, 50, 30, 5):
        x = layers.Dense(units)(x)
    assert peak(inputs, x) == 4 * (50 + 30)


def test_fewer_channels_move_the_peak():
    x = inputs = keras.Input((10,))
    x = layers.Dense(20, name="a")(x)
    x = layers.Dense(50, name="b")(x)
    x = layers.Dense(30, name="c")(x)
    keep = {"b": np.arange(50) < 8, "c": np.arange(30) < 30}
    assert peak(inputs, layers.Dense(5)(x), keep) == 4 * max(10 + 20, 20 + 8, 8 + 30, 30 + 5)


def test_what_is_read_again_later_is_not_written_over():
    inputs = keras.Input((8,))
    x = layers.Dense(8)(inputs)
    activated = layers.ReLU()(x)
    # 'x' is read again by the sum: three tensors of 8 while the sum is made.
    assert peak(inputs, layers.Add()([x, activated])) == 4 * 3 * 8


def test_an_output_lives_to_the_end():
    inputs = keras.Input((8,))
    first = layers.Dense(20)(inputs)
    second = layers.Dense(3)(first)
    assert peak(inputs, [first, layers.Dense(9)(second)]) == 4 * (20 + 3 + 9)


@pytest.mark.parametrize(
    ("layer", "answer"),
    [
        (layers.ReLU(), True),
        (layers.BatchNormalization(), True),
        (layers.Flatten(), True),
        (layers.Dense(2), False),
        (layers.Conv2D(2, 1), False),
        (layers.Add(), False),
    ],
)
def test_what_runs_in_place(layer, answer):
    assert rule_of(runs_in_place, layer)(layer) == answer


def test_unknown_sizes_are_asked_for():
    inputs = keras.Input((None, None, 3), name="picture")
    model = keras.Model(inputs, layers.Conv2D(4, 1)(inputs))
    with pytest.raises(ValueError, match=r"'picture' depends on its shape.*input_shape="):
        ActivationCost(resrep_keras.trace(model))
    known = resrep_keras.trace(model, input_shape=(5, 6, 3))
    assert ActivationCost(known)() == 4 * 5 * 6 * (3 + 4)
