"""What is read inside a call, and what a look leaves as it was."""

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.costs.macs import MacCost, look_inside
from resrep_keras.graph.inside import graph_inside
from resrep_keras.graph.labels import WHOLE


class Own(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5))
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.dense.build((*shape[:-1], 5))
        super().build(shape)

    def call(self, x, training=None):
        self.calls.assign_add(1.0)
        self.add_loss(ops.sum(x))
        if training:
            raise ValueError("in training")
        return self.dense(ops.matmul(x, self.kernel))


def built():
    layer = Own()
    layer.build((None, 3, 6))
    return layer


def test_the_calls_inside_in_inference_with_all_channels_whole():
    graph, error = graph_inside(built(), (keras.KerasTensor((None, 3, 6)),), {})
    assert error is None
    assert [type(call.operation).__name__ for call in graph.calls] == ["Matmul", "Dense"]
    dense = graph.calls[-1]
    assert dense.input.shape == (None, 3, 5) and dense.output_shape == (None, 3, 4)
    assert dense.input.labels_along(2).tolist() == [WHOLE] * 5
    assert graph.kept_labels(dense.input.labels_along(2), np.zeros(1, bool)).all()


def test_a_look_changes_no_variable_and_adds_no_loss():
    layer = built()
    graph_inside(layer, (keras.KerasTensor((None, 3, 6)),), {})
    assert float(ops.convert_to_numpy(layer.calls)) == 0.0
    assert layer.losses == []
    layer(np.ones((1, 3, 6), "float32"))
    assert len(layer.losses) == 1


def test_code_that_only_runs_on_arrays_is_told_with_its_error():
    class Arrays(layers.Layer):
        def call(self, x):
            return np.fft.fft(np.asarray(x))

    graph, error = graph_inside(Arrays(), (keras.KerasTensor((None, 3)),), {})
    assert graph is None and error is not None


def test_variables_in_front_of_symbolic_tensors_give_way():
    class Affine(layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

        def call(self, x):
            return self.scale * x - (self.scale + x) / self.scale

    layer, x = Affine(), keras.Input((3,))
    layer(x)
    graph, error = graph_inside(layer, (x,), {})
    assert error is None and graph.recording.outputs.shape == (None, 3)
    assert "__mul__" not in vars(keras.Variable)
    assert float((layer.scale * 2.0) ** 2) == 4.0


class Products(layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 3))

    def call(self, x):
        return ops.matmul(x, self.kernel)


class AroundProducts(layers.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.products = Products()

    def call(self, x):
        return self.products(x) + 1.0


def test_a_layer_without_a_rule_may_stand_inside_another_one():
    layer, tensor = AroundProducts(), keras.KerasTensor((None, 5, 4))
    layer(tensor)
    graph, error = look_inside(layer, (tensor,), {})
    assert error is None and MacCost(graph)() == 5 * 4 * 3
