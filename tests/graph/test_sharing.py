"""Who reads the variables of another operation."""

import keras
from keras import layers, ops

from resrep_keras.graph.sharing import sharing, variables_read
from resrep_keras.graph.trace import recording_of


def test_layers_with_variables_in_common_are_found():
    inputs = keras.Input((6,))
    first, other = layers.Dense(6, name="first"), layers.Dense(6, name="other")
    x = other(first(inputs))
    outputs = ops.matmul(x, first.kernel)
    calls = recording_of(keras.Model(inputs, layers.ReLU()(outputs))).calls
    product = calls[2]
    assert [id(v) for v in variables_read(product)] == [id(first.kernel)]
    assert sharing(calls) == {id(first): product.name, id(product.operation): "first"}


def test_a_layer_that_is_called_twice_shares_with_no_other():
    inputs = keras.Input((6,))
    layer = layers.Dense(6)
    assert sharing(recording_of(keras.Model(inputs, layer(layer(inputs)))).calls) == {}


def test_a_time_distributed_layer_is_the_layer_inside():
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layers.Dense(2)(layers.TimeDistributed(layers.Dense(4))(inputs)))
    calls = [call for call in recording_of(model).all_calls() if call.inner is None]
    assert len(calls) == 2 and sharing(calls) == {}
