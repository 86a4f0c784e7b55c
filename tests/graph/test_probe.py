"""Functions are tried on arrays: what is shown, and what is not known."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.labels import State
from resrep_keras.graph.probe import (
    Tried,
    commutes_with_selection,
    in_words,
    keeps_zero,
    try_function,
)

# The softmax of a channel alone is one that Keras warns of.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax")


@pytest.mark.parametrize(
    ("function", "pointwise", "zero"),
    [
        (ops.relu, True, True),
        (ops.tanh, True, True),
        (ops.sigmoid, True, False),  # 1/2
        (ops.softplus, True, False),  # log 2
        (lambda x: x + 1.0, True, False),
        (lambda x: 2.0 * x, True, True),
        # NaN of negative numbers is NaN on both sides.
        (ops.sqrt, True, True),
        (ops.log1p, True, True),
        (ops.log, True, False),  # minus infinity
        (ops.rsqrt, True, False),  # infinity
        (lambda x: ops.log(x - 0.25), True, False),  # NaN
        (ops.softmax, False, None),
        (lambda x: ops.flip(x, -1), False, None),
        (lambda x: x - ops.mean(x, -1, keepdims=True), False, None),
        (lambda x: ops.sqrt(ops.cumsum(x, -1)), False, None),  # NaN, and a mixture
        (lambda x: ops.max(x, -1), False, None),  # another shape
    ],
)
def test_functions_are_tried_on_arrays(function, pointwise, zero):
    assert commutes_with_selection(function) == pointwise
    assert not pointwise or keeps_zero(function) == zero


def test_a_function_of_the_channels_position_is_seen_at_each_rank():
    scales = ops.arange(8, dtype="float32")
    assert not commutes_with_selection(lambda x: x * scales[: x.shape[-1]])
    assert not commutes_with_selection(lambda x: x * scales[: x.shape[-1]], (None, 2, 2, 8))


@pytest.mark.parametrize(
    ("function", "zeros"),
    [
        (ops.relu, State.ZERO),
        (ops.exp, State.CONSTANT),
        (ops.log, None),
        (ops.reciprocal, None),
        (lambda x: x + np.arange(12, dtype="float32").reshape(4, 3, 1), State.FIXED),
    ],
)
def test_what_becomes_of_zeros(function, zeros):
    assert try_function(function, (None, 4, 3, 7)) == Tried(True, zeros)


def test_channels_lie_along_the_axis_that_is_said():
    def first(x):
        return ops.softmax(x, axis=1)

    assert not try_function(first, (None, 6, 2, 2), (1,)).pointwise
    assert try_function(first, (None, 6, 2, 2), (3,)) == Tried(True, State.CONSTANT)
    assert not try_function(first, (None, 6, 2, 2), (1, 3)).pointwise


def test_a_function_may_know_the_sizes_of_its_input():
    def whole(x):
        return ops.reshape(x, (2, 4, 4, x.shape[-1]))

    assert try_function(whole, (None, 4, 4, 7)) == Tried(True, State.ZERO)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: ops.reshape(x, (3, 3)), "reshape"),
        (lambda x: ops.sqrt(-1.0 - ops.square(x)), "it gives no finite number"),
        (lambda x: 1 / 0, "division by zero"),
    ],
)
def test_a_function_that_shows_nothing_is_unknown_each_time(function, error):
    for _ in range(2):
        with pytest.raises(Exception, match=error):  # each backend has its own
            try_function(function)


@pytest.mark.parametrize("function", [ops.relu, keras.activations.relu, layers.ReLU().call])
def test_it_is_tried_while_a_step_is_traced(function):
    found = []

    def step(x):
        found.append(try_function(function, (None, 3)))
        return x

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.function(step, jit_compile=True)(tf.zeros(3))
        tf.function(step)(tf.zeros(3))
    elif keras.backend.backend() == "jax":
        import jax

        jax.jit(step)(np.zeros(3, "float32"))
    else:
        step(None)
    assert set(found) == {Tried(True, State.ZERO)}


def test_errors_are_not_remembered():
    """A function of Keras, which is tried once for a process, that fails the first time."""
    calls = []

    def once(x):
        calls.append(x.shape)
        if len(calls) == 1:
            raise RuntimeError("not now")
        return x

    keras.activations.once = once
    try:
        with pytest.raises(RuntimeError, match="not now"):
            try_function(once)
        assert try_function(once) == Tried(True, State.ZERO)
        number = len(calls)
        assert try_function(once) == Tried(True, State.ZERO) and len(calls) == number
    finally:
        del keras.activations.once


def test_an_error_is_one_line():
    assert in_words(ValueError("first\nsecond")) == "ValueError: first"
    assert in_words(KeyError()) == "KeyError"
    assert len(in_words(ValueError("x" * 1000))) == 160
