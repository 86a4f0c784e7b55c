"""Parameters as arithmetic, and for fewer channels."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.params import ParamCost, weight_shapes


@pytest.fixture
def graph():
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten(name="flat")(x)  # 2 x 2 x 6
    x = layers.Dense(5, name="dense")(x)
    return resrep_keras.trace(keras.Model(inputs, layers.Dense(2, name="top")(x)))


DENSE = {
    "conv": 3 * 3 * 3 * 6 + 6,
    "norm": 4 * 6,
    "dense": 2 * 2 * 6 * 5 + 5,
    "top": 5 * 2 + 2,
}


def test_count_params_is_that_of_keras():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.BatchNormalization()])
    assert resrep_keras.count_params(model) == 3 * 4 + 4 + 4 * 4 == model.count_params()
    with pytest.raises(TypeError, match=r"a built keras\.Model; got 3"):
        resrep_keras.count_params(3)


def test_the_dense_model(graph):
    cost = ParamCost(graph)
    assert cost.by_layer() == DENSE and cost() == sum(DENSE.values())
    assert cost.unit == "parameters"


def test_two_of_six_and_three_of_five_channels(graph):
    keep = {"conv": np.arange(6) < 2, "dense": np.arange(5) < 3}
    assert ParamCost(graph).by_layer(graph.keep_array(keep)) == {
        "conv": 3 * 3 * 3 * 2 + 2,
        "norm": 4 * 2,
        "dense": 2 * 2 * 2 * 3 + 3,
        "top": 3 * 2 + 2,
    }


def test_a_weight_counts_what_the_scale_says(graph):
    cost = ParamCost(graph, lambda call: 4 if call.name == "dense" else 0)
    assert cost() == 4 * DENSE["dense"]


def test_a_shared_layer_counts_once():
    a, b = keras.Input((3,)), keras.Input((3,))
    shared = layers.Dense(4, name="shared")
    model = keras.Model([a, b], layers.Dense(1, name="top")(layers.Add()([shared(a), shared(b)])))
    assert ParamCost(resrep_keras.trace(model))() == (3 * 4 + 4) + (4 + 1)


class Scale(layers.Layer):
    """Has no rule; tried on arrays, each channel goes with its own scale."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.scale


class Mixed(Scale):
    def call(self, inputs):
        return ops.softmax(inputs, axis=-1) * self.scale


def shapes_of(layer):
    x = inputs = keras.Input((3,))
    x = layer(layers.Dense(4, name="dense")(x))
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(1, name="top")(x)))
    call = next(call for call in graph.calls if call.name == layer.name)
    return graph, list(weight_shapes(graph, call))


def test_a_layer_that_mixes_channels_keeps_its_size():
    assert shapes_of(Mixed())[1] == [((4,), ())]


def test_a_layer_that_passes_channels_is_as_wide_as_they_are():
    graph, shapes = shapes_of(Scale())
    ((dense, (labels,)),) = shapes
    assert dense == (4,)
    kept = graph.keep_array({"dense": np.arange(4) < 3})
    assert ParamCost(graph).by_layer(kept)["scale"] == graph.kept_labels(labels, kept).sum() == 3


def test_the_axes_of_each_weight_that_become_shorter(graph):
    calls = {call.name: call for call in graph.calls}
    kernel, bias = weight_shapes(graph, calls["dense"])
    assert (kernel[0], bias[0]) == ((24, 5), (5,))
    assert [labels.size for labels in kernel[1]] in ([24, 5], [5, 24])
    assert [labels.size for labels in bias[1]] == [5]
    assert [len(factors) for _, factors in weight_shapes(graph, calls["norm"])] == [1] * 4


def test_room_is_counted_for_a_bias_that_takes_up_constants():
    x = inputs = keras.Input((3,))
    x = layers.Dense(4, activation="sigmoid", name="hidden")(x)  # a removed channel leaves 1/2
    x = layers.Dense(2, use_bias=False, name="top")(x)
    graph = resrep_keras.trace(keras.Model(inputs, x))
    assert ParamCost(graph).by_layer()["top"] == 4 * 2 + 2
