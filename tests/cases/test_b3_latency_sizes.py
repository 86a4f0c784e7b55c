"""A latency is that of the sizes that the model runs with; where these are unknown, it is, too."""

import math

import keras
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.costs import latency_model
from resrep_keras.costs.latency_model import LatencyCost, isolated, measure_latency
from resrep_keras.costs.macs import rows_made
from resrep_keras.costs.rows import rows_of
from resrep_keras.costs.terms import UnknownSize

pytestmark = pytest.mark.tensorflow_only


def over_time(steps):
    """Pooling multiplies nothing, so that the MACs of the model are known for any time."""
    inputs = keras.Input((steps, 8, 8, 3))
    x = layers.TimeDistributed(layers.AveragePooling2D(2, name="average_pooling2d"))(inputs)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.Dense(16, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(4)(x))


@pytest.fixture
def seconds(monkeypatch):
    """Each layer takes as many seconds as its inputs have entries; says which shapes were timed."""
    shapes = []

    def timed(model):
        shapes.append(tuple(model.inputs[0].shape))
        return model

    monkeypatch.setattr(latency_model, "_TIMED", {})
    monkeypatch.setattr(latency_model, "to_tflite_quickly", timed)
    monkeypatch.setattr(latency_model, "to_tflite", timed)
    monkeypatch.setattr(
        latency_model,
        "seconds_alone",
        lambda model, *_: float(math.prod(size or 1 for size in model.inputs[0].shape)),
    )
    return shapes


def cost_of(graph):
    return LatencyCost(graph, measure_latency(graph, threads=1))


def test_an_unknown_time_axis_is_no_single_step(seconds):
    with pytest.raises(
        UnknownSize,
        match=r"'average_pooling2d' takes depends on its input shape .*Give input_shape",
    ):
        cost_of(resrep_keras.trace(over_time(None)))
    assert not seconds
    with pytest.raises(UnknownSize, match="input_shape"):
        resrep_keras.wrap(over_time(None), ResRep({"latency": 0.1}))


def test_input_shape_tells_the_time_axis(seconds):
    shape = (5, 8, 8, 3)
    given = cost_of(resrep_keras.trace(over_time(None), shape))
    built = cost_of(resrep_keras.trace(over_time(5)))
    # 5 steps of both poolings, then the mean over the steps and two dense layers.
    expected = 5 * (8 * 8 * 3 + 4 * 4 * 3) + 5 * 3 + 3 + 16
    assert given.layers() == built.layers() == expected


@pytest.mark.parametrize("size", [None, 12])
def test_an_unknown_image_size_is_no_single_pixel(seconds, size):
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    if size is None:
        with pytest.raises(UnknownSize, match="'conv'"):
            cost_of(resrep_keras.trace(model))
        assert not seconds
    graph = resrep_keras.trace(model, (12, 12, 3))
    assert cost_of(graph).layers() == 12 * 12 * 3 + 10 * 10 * 8 + 8


def test_windows_are_timed_all_together(seconds):
    """Two windows of three positions make one example."""
    inputs = keras.Input((6, 4))
    x = layers.Dense(8, name="windowed")(ops.reshape(inputs, (-1, 3, 4)))
    model = keras.Model(inputs, layers.Dense(2)(ops.reshape(x, (-1, 48))))
    graph = resrep_keras.trace(model)
    (call,) = [call for call in graph.calls if call.name == "windowed"]
    alone = isolated(graph, call, graph.keep_array({}), rows_of(graph, rows_made))
    assert alone.input_shape == (2, 3, 4)
    assert cost_of(graph).layers() == 6 * 4 + 6 * 4 + 6 * 8 + 48
    # Without the channels that are pinned the second reshape would not even run.
    assert not [shape for shape in seconds if shape[-1] not in (4, 8, 48)]
