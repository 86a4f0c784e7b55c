"""MACs of a layer without a rule, as a sum that is linear in each number of channels."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.costs.terms import Term
from resrep_keras.graph.trace import trace
from resrep_keras.rules.multiplied import Way, find_cost, terms_of
from resrep_keras.surgery.trial import Trial, Unlike


class Product(layers.Layer):
    """A matrix that is not what is multiplied, between two of constants."""

    def __init__(self, units, gram=False, **kwargs):
        super().__init__(**kwargs)
        self.units, self.gram = units, gram

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(self.units, input_shape[-1]), name="matrix")

    def call(self, x):
        x = ops.matmul(ops.ones((4, 4)), x)
        if self.gram:
            gram = ops.matmul(ops.swapaxes(x, 1, 2), x)
            x = x + 0.0 * ops.sum(gram, (1, 2), keepdims=True)
        return ops.matmul(ops.ones((3, 4)), ops.matmul(x, ops.transpose(self.matrix)))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "gram": self.gram}


WAYS = [Way(0, 6, {0: 2}, None), Way("out", 5, {}, "units")]


def call_of(layer):
    inputs = keras.Input((4, 6))
    return trace(keras.Model(inputs, layer(inputs))).calls[-1]


def test_each_product_takes_its_share_of_the_channels():
    call = call_of(Product(5))
    cost = find_cost(call, Trial(call), WAYS)
    # (4 x 4) @ (4 x in), then (4 x in) @ (in x out), then (3 x 4) @ (4 x out).
    assert cost == {(): 0, (0,): 4 * 4, ("out",): 3 * 4, (0, "out"): 4}
    (first, second, third) = terms_of(cost, call, {0: 2, "out": 2})
    assert isinstance(first, Term) and [t.coefficient for t in (first, second, third)] == [
        12,
        16,
        4,
    ]
    assert [len(term.factors) for term in (first, second, third)] == [1, 1, 2]
    np.testing.assert_array_equal(second.factors[0], call.inputs[0].labels_along(2))


def test_what_is_not_linear_is_found_out():
    call = call_of(Product(5, gram=True))
    with pytest.raises(Unlike, match="changes its MACs in a way that is not predicted"):
        find_cost(call, Trial(call), WAYS)


def test_what_multiplies_nothing_or_has_a_rule_or_cannot_be_read():
    call = call_of(layers.Lambda(lambda x: 2.0 * x))
    assert find_cost(call, Trial(call), WAYS[:1]) == {}
    call = call_of(layers.Dense(5))
    assert find_cost(call, Trial(call), WAYS) is None

    class OnArrays(layers.Layer):
        def call(self, x):
            return x + np.asarray(x) if not isinstance(x, keras.KerasTensor) else None

        def compute_output_shape(self, input_shape):
            return input_shape

    call = call_of(OnArrays())
    assert find_cost(call, Trial(call), WAYS[:1]) is None
