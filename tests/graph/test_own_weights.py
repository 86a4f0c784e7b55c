"""Weights of a layer's own, and parts that it calls on arrays, as tensors of a graph."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.composite import sublayers
from resrep_keras.graph.own_weights import OwnWeights, hold, is_holder, makes_all


class Holds(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.table = layers.Dense(3), layers.Embedding(4, 3)

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.table.build(())
        self.scale = self.add_weight(shape=(3,), initializer="uniform", name="scale")
        self.more = {"a": [self.add_weight(shape=(2, 3), name="offset", trainable=False)]}
        self.number = self.add_weight(shape=(), name="number")

    def call(self, x):
        return self.scale * self.dense(x) + self.table(ops.arange(2, 3))


def built():
    layer = Holds(name="holds")
    layer.build((None, 5))
    return layer


@pytest.mark.parametrize("shape", [(3,), (1, 4), (2, 1, 3)])
def test_a_holder_multiplies_a_one_with_the_variable_itself(shape):
    variable = keras.Variable(np.random.default_rng(0).normal(size=shape).astype("float32"))
    holder = hold(variable, "float32", "held")
    assert holder.weights == [variable] and is_holder(holder) and holder.name == "held"
    np.testing.assert_array_equal(holder(np.ones(1))[0], variable)
    copy = type(holder).from_config(holder.get_config())
    copy.build((1,))
    assert copy.kernel.shape == shape


def test_a_holder_has_the_regularizer_and_flag_of_its_variable():
    layer = layers.Dense(3, kernel_regularizer="l2", kernel_constraint="non_neg")
    layer.build((None, 2))
    layer.kernel.trainable = False
    holder = hold(layer.kernel, "float32", "held")
    assert isinstance(holder.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(holder.kernel_constraint, keras.constraints.NonNeg)
    assert not holder.trainable and not holder.trainable_weights


def test_which_equations_read_nothing_with_their_kernel():
    assert makes_all("a,bc->abc")
    assert not makes_all("ab,bc->ac")
    assert not is_holder(layers.Dense(3))


def test_stand_ins_are_there_while_it_lasts_and_only_then():
    layer = built()
    own, before = OwnWeights(layer, sublayers(layer)), dict(vars(layer))
    inputs = keras.Input((5,))
    with own.as_tensors([inputs]):
        assert isinstance(layer.scale, keras.KerasTensor) and layer.scale.shape == (3,)
        assert isinstance(layer.more["a"][0], keras.KerasTensor)
        assert layer.number is before["number"]  # of no shape
        assert "number' is a single number" in own.without_holder()
        assert layer.dense is before["dense"] and layer.table is before["table"]
    assert all(vars(layer)[name] is value for name, value in before.items())


def test_parts_are_called_on_tensors_that_hold_the_arrays():
    layer = built()
    own, inputs = OwnWeights(layer, sublayers(layer)), keras.Input((5,))
    own.on_arrays([layer.table])
    with own.as_tensors([inputs]):
        assert layer.table.input_dim == 4
        outputs = layer.call(inputs)
    graph = keras.Model(inputs, outputs)
    assert {id(w) for w in (layer.scale, *layer.dense.weights, *layer.table.weights)} == {
        id(w) for w in graph.weights
    }
    x = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    np.testing.assert_allclose(graph(x), layer.call(ops.convert_to_tensor(x)), rtol=1e-6)
