"""Calls that ask how large the batch is are read for one size, and rewritten for any."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.graph.open_sizes import (
    SIZE,
    OpenSizes,
    first_fitting,
    fitting_kept,
    open_axes,
)

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


# --- lengths -------------------------------------------------------------------------------------


def read_open(call, *shapes):
    """The graph of a call for any size of what is `None` in the shapes, and its `OpenSizes`."""
    tensors = [keras.Input(shape) for shape in shapes]
    graphs = {}

    def fits(sizes):
        inputs = sizes.inputs(tensors)
        try:
            with sizes.making(inputs, tensors):
                made = call(*inputs)
            graphs[id(sizes)] = sizes.for_any(keras.Model(inputs, made), tensors)
        except ValueError:
            return False
        kept.append(sizes)
        return True

    kept = []
    found = first_fitting(call, tensors, fits)
    return found, graphs.get(id(kept[-1])) if kept else None


def hand_made(x):
    batch, length, width = ops.shape(x)
    y = ops.reshape(x, (batch, length, 2, width // 2))
    y = y * ops.reshape(ops.arange(length, dtype="float32"), (1, length, 1, 1))
    mask = ops.broadcast_to(ops.tri(length), (batch, length, length))
    return ops.matmul(mask, ops.reshape(y, (batch, length, width)))


def first_rows(x):
    table = ops.ones_like(x[:1, :1, :1]) * np.arange(30, dtype="float32").reshape(1, 30, 1)
    return x + ops.slice(table, (0, 2, 0), (1, ops.shape(x)[1], 1))


@pytest.mark.parametrize("call", [hand_made, first_rows])
def test_the_graph_is_that_of_any_length(call):
    sizes, graph = read_open(call, (None, 6))
    assert sizes.kinds == {(0, 1): 0} and graph.inputs[0].shape == (None, None, 6)
    for length in (1, 5, 11):
        x = np.random.default_rng(length).normal(size=(2, length, 6)).astype("float32")
        np.testing.assert_allclose(graph([x]), call(ops.convert_to_tensor(x)), rtol=1e-5)


def test_a_length_that_a_call_does_not_take_gives_way_to_a_shorter_one():
    def call(x):
        if ops.shape(x)[1] > 20:
            raise ValueError("too long")
        return x * ops.arange(ops.shape(x)[1], dtype="float32")[:, None]

    sizes, graph = read_open(call, (None, 6))
    assert sizes.lengths[0] == 13 and graph is not None


def test_lengths_that_differ_are_told_apart():
    def across(x, y, of_y):
        mask = ops.arange(ops.shape(y)[1], dtype="float32") * of_y
        return ops.matmul(x, ops.transpose(y * mask[..., None], (0, 2, 1)))

    sizes, graph = read_open(across, (None, 6), (None, 6), (None,))
    assert sizes.kinds == {(0, 1): 0, (1, 1): 1, (2, 1): 1}
    generator = np.random.default_rng(0)
    given = [generator.normal(size=n).astype("float32") for n in ((2, 5, 6), (2, 3, 6), (2, 3))]
    np.testing.assert_allclose(graph(given), across(*map(ops.convert_to_tensor, given)), rtol=1e-5)


def test_nothing_fits_a_call_that_computes_with_a_length():
    sizes, _ = read_open(lambda x: x / ops.shape(x)[1], (None, 6))
    assert sizes is None


def test_what_fits_a_layer_is_kept_for_those_of_its_kind():
    layer, tensors, asked = keras.layers.Dense(3), [keras.Input((None, 6))], []

    def fits(sizes):
        asked.append(sizes)
        return True

    with fitting_kept():
        found = [first_fitting(layer, tensors, fits) for _ in range(2)]
    assert len(asked) == 1 and found[0] == found[1] and found[0].reshapes is not found[1].reshapes
    first_fitting(layer, tensors, fits)
    assert len(asked) == 2


def test_which_sizes_are_open():
    tensors = [keras.Input((None, 6)), keras.Input((3,)), keras.Input((None, None))]
    assert open_axes(tensors) == [(0, 1), (2, 1), (2, 2)]
    sizes = OpenSizes({(0, 1): 0, (2, 1): 0, (2, 2): 1}, (13, 11))
    assert [x.shape for x in sizes.inputs(tensors)] == [(SIZE, 13, 6), (SIZE, 3), (SIZE, 13, 11)]
    lengths = [x.shape[1:] for x in sizes.of_length(tensors, 16)]
    assert lengths == [(16, 6), (3,), (16, 13)]


def test_several_windows_make_one_example():
    """As the masks of shifted windows are for all of those of an example."""
    mask = np.random.default_rng(0).normal(size=(4, 6, 6)).astype("float32")

    def masked(x):
        rows, windows = ops.shape(x)[0], mask.shape[0]
        x = ops.reshape(x, (rows // windows, windows, 6, 6)) + mask[None]
        return ops.reshape(x, (-1, 6, 6))

    tensors = [keras.Input((6, 6))]
    sizes = OpenSizes({}, (), 576)
    inputs = sizes.inputs(tensors)
    graph = sizes.for_any(keras.Model(inputs, masked(*inputs)), tensors)
    assert [x.shape for x in sizes.of_length(tensors, 16)] == [(576, 6, 6)]
    x = np.random.default_rng(1).normal(size=(8, 6, 6)).astype("float32")
    np.testing.assert_allclose(graph([x]), masked(ops.convert_to_tensor(x)), rtol=1e-6)
