"""Who reads the variables of another operation."""

import keras
from keras import layers, ops

from resrep_keras.graph.sharing import pairs_of_parts, sharing, variables_read
from resrep_keras.graph.trace import recording_of, trace


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


def test_calls_that_mix_positions_may_pass_any_number_of_channels():
    """Of the positions that are read none may go; those that are made are the same each time."""
    inputs = keras.Input((6, 5))
    shared = layers.Dense(6)
    turned = [layers.Permute((2, 1))(layers.Dense(n)(inputs)) for n in (8, 4)]
    graph = trace(keras.Model(inputs, [shared(x) for x in turned]))
    one, other = (call for call in graph.calls if call.operation is shared)
    (made,) = pairs_of_parts(one, other)
    assert made[0].labels.shape == made[1].labels.shape == (1, 1, 6)


def test_other_layers_have_all_that_they_read_in_common():
    inputs = keras.Input((6, 5))
    shared = layers.BatchNormalization()
    model = keras.Model(inputs, [shared(layers.Dense(8)(inputs)) for _ in range(2)])
    one, other = (call for call in trace(model).calls if call.operation is shared)
    pairs = pairs_of_parts(one, other)
    assert [(a is b, a.labels.size) for a, b in pairs] == [(False, 8)] * 2
