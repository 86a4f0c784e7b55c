"""Calls that ask how large the batch is are read for one size, and rewritten for any."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.graph.open_sizes import SIZE, OpenSizes

SHAPE = (4, 6)


def read(call):
    tensors = [keras.Input(SHAPE)]
    sizes = OpenSizes({}, ())
    inputs = sizes.inputs(tensors)
    return sizes.for_any(keras.Model(inputs, call(*inputs)), tensors)


def heads(x):
    batch, length, width = ops.shape(x)
    x = ops.reshape(x, (batch, -1, 2, width // 2))
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (batch * 2, length, width // 2))
    return ops.reshape(x, (batch, 2 * length, -1))


def one(x):
    return ops.sum(x * 0, axis=(0, 1), keepdims=True) + np.arange(6, dtype="float32")


@pytest.mark.parametrize(
    "call",
    [
        heads,
        lambda x: x + ops.broadcast_to(one(x), (ops.shape(x)[0], 1, 6)),
        lambda x: x + ops.tile(one(x), (ops.shape(x)[0], 1, 1)),
        lambda x: x + ops.repeat(one(x), ops.shape(x)[0], axis=0),
    ],
    ids=["heads", "broadcast_to", "tile", "repeat"],
)
def test_the_graph_is_that_of_any_size(call):
    graph = read(call)
    assert [graph.inputs[0].shape, graph.output_shape[0]] == [(None, *SHAPE), None]
    for size in (1, 3):
        x = np.random.default_rng(size).normal(size=(size, *SHAPE)).astype("float32")
        np.testing.assert_allclose(graph([x]), call(ops.convert_to_tensor(x)), rtol=1e-6)


def test_inputs_of_a_batch_that_is_known_stay():
    known, unknown = keras.Input(batch_shape=(2, 3)), keras.Input((3,))
    assert [x.shape for x in OpenSizes({}, ()).inputs([known, unknown])] == [(2, 3), (SIZE, 3)]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x / ops.shape(x)[0],
        lambda x: x + np.arange(ops.shape(x)[0], dtype="float32")[:, None, None],
        lambda x: ops.reshape(x, (2, ops.shape(x)[0] * 2, -1))[:, : ops.shape(x)[0]],
    ],
    ids=["a number", "an array", "a part"],
)
def test_other_uses_of_the_size_are_refused(call):
    with pytest.raises(ValueError, match="computes with the size of the batch"):
        read(call)


def test_arrays_that_are_the_same_for_each_example_are_those_of_one():
    def causal(x):
        batch, length, _ = ops.shape(x)
        here = ops.arange(length)[:, None] >= ops.arange(length)
        mask = ops.broadcast_to(here[None], (batch, length, length))
        scores = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
        return ops.where(ops.cast(mask, bool), scores, 0.0)

    graph = read(causal)
    x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("float32")
    np.testing.assert_allclose(graph([x]), causal(ops.convert_to_tensor(x)), rtol=1e-5)
