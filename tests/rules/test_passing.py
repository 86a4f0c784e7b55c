"""Channels that pass through a layer without a rule, as trying shows."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.labels import State
from resrep_keras.graph.trace import trace
from resrep_keras.rules.passing import find_passing
from resrep_keras.surgery.trial import Trial, Unlike


def found(function, shape=(4, 4, 6), number=1, axes=None):
    inputs = [keras.Input(shape) for _ in range(number)]
    layer = layers.Lambda(lambda x: function(*x) if number > 1 else function(x))
    model = keras.Model(inputs, layer(inputs if number > 1 else inputs[0]))
    axes = dict.fromkeys(range(number), len(shape)) if axes is None else axes
    return find_passing(Trial(trace(model).calls[-1]), axes, shape[axes[0] - 1])


def padded(x):
    return ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


@pytest.mark.parametrize(
    ("function", "zeros", "constants"),
    [
        (ops.tanh, State.ZERO, State.CONSTANT),
        (ops.sigmoid, State.CONSTANT, State.CONSTANT),
        (padded, State.ZERO, State.FIXED),
        (lambda x: x + ops.reshape(ops.arange(4.0), (1, 4, 1, 1)), State.FIXED, State.FIXED),
        (lambda x: 1.0 / x, None, State.CONSTANT),
        (lambda x: ops.mean(x, (1, 2)), State.ZERO, State.CONSTANT),
    ],
)
def test_what_zeros_and_constants_become(function, zeros, constants):
    passes = found(function)
    assert (passes.zeros, passes.constants) == (zeros, constants)
    assert passes.in_place and not passes.needs_zeros and passes.weights == ()


def test_each_entry_has_the_channel_that_it_comes_from():
    def function(x):
        ones = ops.ones_like(x[..., :2])
        return ops.concatenate([ops.repeat(x, 2, -1), ones, -x], -1)

    ((axis, sources),) = found(function).outputs
    assert axis == 3
    np.testing.assert_array_equal(sources, [*np.repeat(range(6), 2), -1, -1, *range(6)])


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: ops.flip(x, -1), "gives other values"),
        (lambda x: x / x.shape[-1], "gives other values"),
        (lambda x: x - ops.mean(x, -1, keepdims=True), "gives other values"),
        (lambda x: x[..., ::2], "before"),
        (lambda x: x[..., :1] + ops.zeros((4, 4, 5)), "not their number of channels"),
        (lambda x: ops.sum(x, -1), "changes the rank|not their number"),
    ],
)
def test_what_does_not_pass(function, text):
    with pytest.raises(Unlike, match=text):
        found(function)


def test_sums_over_channels_pass_where_the_others_are_zero():
    passes = found(lambda x: x * ops.sigmoid(ops.sum(x, -1, keepdims=True)))
    assert passes.needs_zeros and passes.zeros is State.ZERO and passes.in_place


def test_two_inputs_are_added_or_multiplied():
    assert not found(lambda x, y: x - 2.0 * y, number=2).one_is_enough
    assert found(lambda x, y: x * y, number=2).one_is_enough
    assert not found(lambda x, y: x * ops.sigmoid(y), number=2).one_is_enough


def test_channels_may_lie_along_another_axis():
    passes = found(lambda x: ops.transpose(ops.relu(x), (0, 2, 3, 1)), (6, 4, 5), axes={0: 1})
    assert [axis for axis, _ in passes.outputs] == [3]


def test_weights_with_an_entry_for_each_channel():
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, layers.BatchNormalization(scale=False)(inputs))
    passes = find_passing(Trial(trace(model).calls[-1]), {0: 2}, 6)
    assert passes.weights == ((0,), (0,), (0,)) and passes.zeros is State.CONSTANT
    assert passes.what_weights_read == (passes.weights, None)
    assert passes.scales is None  # a factor fits into no scale
