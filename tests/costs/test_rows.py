"""Entries of the first axis that belong to one example: windows, and examples moved away."""

import keras
import pytest
from keras import layers, ops

import resrep_keras


def counted(function, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return resrep_keras.count_macs(keras.Model(inputs, function(inputs)))


def windows(x):
    """Four windows of 4 x 4 for each example."""
    x = ops.reshape(x, (-1, 2, 4, 2, 4, 3))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, 16, 3))


class Windows(layers.Layer):
    def call(self, x):
        return windows(x)


@pytest.mark.parametrize("cut", [windows, lambda x: Windows()(x)], ids=["operations", "layer"])
def test_each_window_of_an_example_is_counted(cut):
    assert counted(lambda x: layers.Dense(5)(cut(x))) == 4 * 16 * 3 * 5
    attention = layers.MultiHeadAttention(2, 3)
    projections, pairs = 4 * 16 * 3 * 2 * 3, 16 * 16 * 2 * 3
    expected = 4 * (projections + 2 * pairs)
    assert counted(lambda x: attention(cut(x), cut(x))) == expected


def test_windows_that_are_put_together_again():
    def whole(x):
        return layers.Conv2D(2, 3, padding="same")(ops.reshape(windows(x), (-1, 8, 8, 3)))

    assert counted(whole) == 8 * 8 * 9 * 3 * 2


def test_examples_that_lie_along_another_axis_are_unknown_and_not_guessed():
    def moved(x):
        return layers.Dense(4)(ops.transpose(x, (1, 0, 2)))

    with pytest.warns(UserWarning, match="examples along another axis than the first"):
        assert counted(moved, (5, 6)) == 0


def test_examples_that_move_to_another_axis_and_back_are_counted_behind_it():
    def attended(x):
        parts = ops.reshape(layers.Dense(6)(x), (-1, 4, 3, 2))
        first, second, third = ops.unstack(ops.transpose(parts, (2, 0, 1, 3)), axis=0)
        scores = ops.matmul(first, ops.transpose(second, (0, 2, 1)))
        return layers.Dense(5)(ops.matmul(scores, third))

    assert counted(attended, (4, 6)) == 4 * 6 * 6 + 4 * 4 * 2 + 4 * 4 * 2 + 4 * 2 * 5
