"""OptimizerWrapper: from outside it looks like the optimizer that it wraps."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.optimizers.wrapper import (
    Companion,
    OptimizerWrapper,
    find_wrapper,
    in_norms_dtype,
    inverse,
)


def variables():
    return [keras.Variable(np.array([1.0, 2.0]), name="a"), keras.Variable(3.0, name="b")]


def test_by_itself_it_changes_no_step():
    gradients = [ops.convert_to_tensor([1.0, -1.0]), ops.convert_to_tensor(2.0)]
    plain, wrapped = variables(), variables()
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    outer = OptimizerWrapper(keras.optimizers.SGD(0.1, momentum=0.9))
    for _ in range(3):
        inner.apply(gradients, plain)
        outer.apply(gradients, wrapped)
    for one, other in zip(plain, wrapped):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))
    assert int(outer.steps) == int(outer.iterations) == 3


def test_rate_and_loss_scale_pass_through():
    outer = OptimizerWrapper(keras.optimizers.SGD(0.1, loss_scale_factor=8.0))
    outer.learning_rate = 0.5
    assert float(outer.inner_optimizer.learning_rate) == float(outer.learning_rate) == 0.5
    assert float(outer.scale_loss(ops.convert_to_tensor(2.0))) == 16.0
    assert outer.loss_scale_factor == 8.0


def test_steps_per_update_are_those_of_the_accumulation():
    assert OptimizerWrapper("sgd").steps_per_update == 1
    inner = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    assert OptimizerWrapper(inner).steps_per_update == 4


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="it writes into variables")
def test_a_stateless_step_equals_a_stateful_one():
    gradients = [ops.convert_to_tensor([1.0, -1.0]), ops.convert_to_tensor(2.0)]
    one, other = variables(), variables()
    stateful, stateless = OptimizerWrapper("adam"), OptimizerWrapper("adam")
    stateful.apply(gradients, one)
    with pytest.raises(ValueError, match="Expected a built optimizer"):
        stateless.stateless_apply([], gradients, [v.value for v in other])
    stateless.build(other)
    state = [v.value for v in stateless.variables]
    values, new_state = stateless.stateless_apply(state, gradients, [v.value for v in other])
    for variable, value in zip(one, values):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), ops.convert_to_numpy(value))
    assert len(new_state) == len(stateless.variables)
    assert [ops.convert_to_numpy(v).tolist() for v in other] == [[1.0, 2.0], 3.0]  # untouched
    with pytest.raises(ValueError, match="`trainable_variables` as the optimizer was built with"):
        stateless.stateless_apply(state, gradients, [other[1].value])
    with pytest.raises(ValueError, match="`optimizer_variables` as the optimizer was built with"):
        stateless.stateless_apply(state[1:], gradients, [v.value for v in other])


def test_a_wrapper_is_found_in_a_chain():
    wrapper = OptimizerWrapper("sgd")
    assert find_wrapper(keras.optimizers.LossScaleOptimizer(wrapper)) is wrapper
    assert find_wrapper(keras.optimizers.SGD()) is None and find_wrapper(None) is None


def test_the_inverse_of_zero_is_zero():
    values = ops.convert_to_tensor([0.0, 2.0, 0.5])
    assert ops.convert_to_numpy(inverse(values)).tolist() == [0.0, 0.5, 2.0]


# JAX has it switched off.
FLOAT64 = pytest.param("float64", "float64", marks=pytest.mark.tensorflow_only)


@pytest.mark.parametrize(
    ("dtype", "norms"), [("float16", "float32"), ("float32", "float32"), FLOAT64]
)
def test_norms_are_taken_in_32_bits_at_least(dtype, norms):
    assert in_norms_dtype(keras.Variable([1.0], dtype=dtype)) == norms


@pytest.mark.parametrize(
    ("inner", "error", "text"),
    [
        (lambda: OptimizerWrapper("sgd"), TypeError, "a plain optimizer.*got a OptimizerWrapper"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()),
            TypeError,
            r"goes outside: LossScaleOptimizer\(OptimizerWrapper\(optimizer\)\)",
        ),
        (
            lambda: keras.optimizers.SGD(use_ema=True),
            ValueError,
            "has use_ema=True, whose running average",
        ),
    ],
)
def test_what_cannot_be_wrapped(inner, error, text):
    with pytest.raises(error, match=text):
        OptimizerWrapper(inner())


def test_a_companion_has_the_settings_of_now():
    now = {"scale": 2.0, "steps": None}
    companion = Companion(
        lambda: now["scale"], lambda: now["steps"], learning_rate=0.1, name="beside"
    )
    assert companion.loss_scale_factor == 2.0 and companion.gradient_accumulation_steps is None
    now.update(scale=None, steps=4)
    assert companion.loss_scale_factor is None and companion.gradient_accumulation_steps == 4
