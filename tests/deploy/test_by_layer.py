"""Layers in the order of the model: channels, MACs and latency, before and after."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.deploy.by_layer import LayerRow, layer_rows, seconds_by_layer
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.remove import remove


def net():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="first", use_bias=False)(inputs)
    x = layers.DepthwiseConv2D(3, padding="same", name="apart", use_bias=False)(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, name="head", use_bias=False)(x))


def halved(model, name):
    """The graphs of a model and of one that has lost half of a layer's channels."""
    graph = trace(model)
    size = len(graph.group(name).channels)
    kept = graph.keep_array({name: np.arange(size) < size // 2})
    return graph, trace(remove(graph, kept))


def test_channels_and_macs_by_hand():
    assert layer_rows(halved(net(), "first")) == (
        LayerRow("first", "Conv2D", (6, 3), (64 * 27 * 6, 64 * 27 * 3)),
        LayerRow("apart", "DepthwiseConv2D", (6, 3), (64 * 9 * 6, 64 * 9 * 3)),
        LayerRow("head", "Dense", (4, 4), (6 * 4, 3 * 4)),
    )


def test_rows_add_up_to_the_model():
    graphs = halved(net(), "first")
    for side, graph in enumerate(graphs):
        total = sum(row.macs[side] for row in layer_rows(graphs))
        assert total == resrep_keras.costs.macs.MacCost(graph)()


def test_what_a_layer_holds_inside_has_rows_of_its_own_and_its_cost_once():
    inputs = keras.Input((5, 6))
    x = layers.LSTM(4, name="memory", return_sequences=True)(inputs)
    x = layers.MultiHeadAttention(2, 3, name="heads")(x, x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    graph = trace(model)
    rows = layer_rows((graph, graph))
    assert [row.name.split(".")[0] for row in rows] == sorted(
        (row.name.split(".")[0] for row in rows), key=["memory", "heads", "head"].index
    )
    inside = [row for row in rows if row.name.startswith("heads.")]
    assert len(inside) >= 2 and [row.macs[0] is None for row in inside[1:]] == [True] * (
        len(inside) - 1
    )
    assert sum(row.macs[0] or 0 for row in rows) == resrep_keras.count_macs(model)


def test_sizes_that_are_open_leave_macs_unknown():
    inputs = keras.Input((None, None, 3))
    graph = trace(keras.Model(inputs, layers.Conv2D(4, 3, name="conv")(inputs)))
    assert layer_rows((graph, graph)) == (LayerRow("conv", "Conv2D", (4, 4)),)


@pytest.mark.tensorflow_only
def test_each_layer_is_timed():
    graphs = halved(net(), "first")
    times = seconds_by_layer(graphs, 1, 0)
    assert all({"first", "apart", "head"} <= set(found) for found in times)
    first = layer_rows(graphs, times)[0]
    assert first.milliseconds == tuple(1000 * found["first"] for found in times)
    assert min(first.milliseconds) > 0
    inputs = keras.Input((None, None, 3))
    graph = trace(keras.Model(inputs, layers.Conv2D(4, 3)(inputs)))
    assert seconds_by_layer((graph, graph), 1, 0) == ({}, {})
