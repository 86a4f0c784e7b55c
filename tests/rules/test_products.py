"""What products of tensors multiply, as arithmetic."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import MacCost

# 5 positions of 6 channels, and 7 of them: two inputs.
FIRST, SECOND = (5, 6), (7, 6)
KERNEL = np.ones((6, 4), "float32")


def counted(function, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return resrep_keras.count_macs(keras.Model(inputs, function(*inputs)))


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda a, b: ops.einsum("bij,bkj->bik", a, b), 5 * 7 * 6),
        (lambda a, b: ops.einsum("...ij,...kj->...ik", a, b), 5 * 7 * 6),
        (lambda a, b: ops.einsum("bij,bkj", a, b), 5 * 7 * 6),
        (lambda a, b: ops.einsum("bij,bkj->bikj", a, b), 0),  # nothing is summed
        (lambda a, b: ops.einsum("bij,jl->bil", a, KERNEL), 5 * 6 * 4),
        # The smallest thing at once is made first: jl, of 6 x 6.
        (lambda a, b: ops.einsum("bij,bkj,bkl->bil", a, b, b), 7 * 6 * 6 + 5 * 6 * 6),
        (lambda a, b: ops.einsum("bij->bi", a), 0),
        (lambda a, b: ops.matmul(a, ops.swapaxes(b, 1, 2)), 5 * 6 * 7),
        (lambda a, b: ops.matmul(a, KERNEL), 5 * 6 * 4),
        (lambda a, b: ops.matmul(a, np.ones(6, "float32")), 5 * 6),
        (lambda a, b: ops.matmul(np.ones((3, 5), "float32"), a), 3 * 5 * 6),
        (lambda a, b: ops.tensordot(a, KERNEL, 1), 5 * 6 * 4),
        (lambda a, b: ops.dot(a, KERNEL), 5 * 6 * 4),
        (lambda a, b: ops.inner(a, np.ones((4, 6), "float32")), 5 * 6 * 4),
        (lambda a, b: layers.Dot(2)([a, b]), 5 * 7 * 6),
        (lambda a, b: layers.Dot((2, 2), normalize=True)([a, b]), 5 * 7 * 6),
        (lambda a, b: ops.multiply(a, a), 0),
        (lambda a, b: ops.outer(a, np.ones(3, "float32")), 0),
    ],
)
def test_sums_of_products(function, macs):
    assert counted(function, FIRST, SECOND) == macs


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda x: ops.conv(x, np.ones((3, 2, 4, 6), "float32")), 6 * 8 * 3 * 2 * 4 * 6),
        (lambda x: ops.depthwise_conv(x, np.ones((3, 2, 4, 5), "float32")), 6 * 8 * 3 * 2 * 4 * 5),
        (
            lambda x: ops.separable_conv(
                x, np.ones((3, 2, 4, 1), "float32"), np.ones((1, 1, 4, 7), "float32")
            ),
            6 * 8 * 3 * 2 * 4 + 6 * 8 * 4 * 7,
        ),
        (
            lambda x: ops.conv_transpose(x, np.ones((3, 2, 5, 4), "float32"), 2),
            8 * 9 * 3 * 2 * 5 * 4,
        ),
    ],
)
def test_convolutions_of_operations(function, macs):
    assert counted(function, (8, 9, 4)) == macs


def test_attention_of_operations_counts_scores_and_sums():
    """2 heads of width 3; 5 queries, 7 values of width 4."""
    shapes = (5, 2, 3), (7, 2, 3), (7, 2, 4)
    scores = 5 * 7 * 2 * 3
    assert counted(ops.dot_product_attention, *shapes) == scores + 5 * 7 * 2 * 4


def test_channels_of_a_product_count_as_they_are_kept():
    inputs = keras.Input((5, 6))
    a, b = layers.Dense(8, name="a")(inputs), layers.Dense(8, name="b")(inputs)
    scores = ops.matmul(a, ops.swapaxes(b, 1, 2))
    graph = resrep_keras.trace(keras.Model(inputs, layers.Flatten()(scores)))
    cost = MacCost(graph)
    assert cost() == 2 * 5 * 6 * 8 + 5 * 5 * 8
    keep = np.arange(8) < 3
    kept = graph.keep_array({"a": keep, "b": keep})
    assert cost(kept) == 2 * 5 * 6 * 3 + 5 * 5 * 3
