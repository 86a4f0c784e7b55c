"""Which layers made of layers are opened, and which stay closed: a graph would not be the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.composite import Closed, open_call, sublayers


class Composite(layers.Layer):
    """Two dense layers and a generator of random numbers; subclasses call them as they like."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(3, name="second")
        self.seed = keras.random.SeedGenerator(1)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((None, 4))
        self.built = True


class Plain(Composite):
    def call(self, x):
        return self.second(ops.relu(self.first(x)) * 0.5)


class WithConstants(Composite):
    def call(self, x):
        return self.second(self.first(x + np.arange(6.0, dtype="float32")) * ops.ones((4,)))


class ReadsAPart(Composite):
    def call(self, x):
        return ops.matmul(ops.matmul(x, self.first.kernel), self.second.kernel)


class ReadsACalledPart(Composite):
    def call(self, x):
        x = self.second(self.first(x))
        return ops.matmul(x, ops.transpose(self.second.kernel))


class HoldsAVariableOfACalledPart(Composite):
    def call(self, x):
        x = self.second(self.first(x))
        return ops.matmul(ops.matmul(x, ops.ones((3, 4))), self.second.kernel)


class ReadsAPartAsANumber(Composite):
    def call(self, x):
        return self.second(self.first(x)) * float(ops.convert_to_numpy(self.first.kernel)[0, 0])


class LeavesAPartOut(Composite):
    def call(self, x):
        return ops.relu(self.first(x))


class Draws(Composite):
    def call(self, x):
        return self.second(self.first(x)) + 1e-6 * keras.random.normal((3,), seed=self.seed)


class DrawsByKeras(Composite):
    def call(self, x):
        return self.second(self.first(x)) + 1e-6 * keras.random.normal((3,))


class DrawsTheSame(Composite):
    def call(self, x):
        return self.second(self.first(x)) + keras.random.normal((3,), seed=7)


class Counts(Composite):
    def call(self, x):
        self.first.bias.assign_add(ops.ones((4,)))
        return self.second(self.first(x))


class FailsOnSymbols(Composite):
    def call(self, x):
        return self.second(self.first(x)) * float(x[0, 0])


class Trains(Composite):
    def call(self, x, training=False):
        x = self.first(x)
        return self.second(2 * x if training else x)


def opened(kind, **settings):
    layer = kind()
    inputs = keras.Input((6,))
    layer.build(inputs.shape)
    before = [ops.convert_to_numpy(variable) for variable in layer.variables]
    found = open_call(layer, (inputs,), {}, **settings)
    for old, variable in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    return layer, found


@pytest.mark.parametrize("kind", [Plain, WithConstants, DrawsTheSame])
def test_what_calls_its_parts_is_opened(kind):
    layer, (graph, tensors) = opened(kind)
    assert [x.shape for x in tensors] == [(None, 6)]
    assert {id(v) for v in graph.weights} == {id(v) for v in layer.weights}
    x = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    np.testing.assert_allclose(graph([x]), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind",
    [
        ReadsAPart,
        ReadsACalledPart,
        HoldsAVariableOfACalledPart,
        ReadsAPartAsANumber,
        LeavesAPartOut,
        Draws,
        DrawsByKeras,
        Counts,
        Trains,
    ],
)
def test_what_does_more_than_to_call_its_parts_stays_closed(kind):
    assert opened(kind)[1] is None


def test_what_raises_stays_closed_with_the_reason():
    with pytest.raises(Closed, match=r"its call\(\) raises \w+: .* on symbolic tensors"):
        opened(FailsOnSymbols)


def test_a_layer_that_takes_no_random_array_says_so():
    class Table(Composite):
        def call(self, x):
            if not isinstance(x, keras.KerasTensor) and (keras.ops.convert_to_numpy(x) != 3).any():
                raise LookupError("three is expected")
            return self.second(self.first(x))

    with pytest.raises(Closed, match=r"it raises LookupError: three is expected on random arrays"):
        opened(Table)


def test_a_model_may_leave_out_a_part_that_its_call_does_not_use():
    assert opened(LeavesAPartOut, may_lose_weights=True)[1] is not None
    for kind in (ReadsAPart, ReadsACalledPart, ReadsAPartAsANumber):
        assert opened(kind, may_lose_weights=True)[1] is None


def test_drawn_numbers_keep_closed_what_has_drawn_before():
    keras.random.normal((1,))  # from now on Keras's own generator is there
    assert opened(DrawsByKeras)[1] is None


def test_sublayers_are_found_at_any_depth():
    layer = Plain()
    layer.more = {"a": [layers.ReLU(name="inside")]}
    assert {each.name for each in sublayers(layer)} == {"first", "second", "inside"}
