"""What a call multiplies is told by what it does, not by what layers say of shapes without a batch.

Transformers of other libraries look up tokens, ask how large the batch is, and hold layers that
describe their shapes wrongly.
"""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.surgery.forward import example_inputs
from tests import paths

products = paths.benchmarks("products").products


class WithKernel(layers.Layer):
    """Has a kernel of the shape that its class names."""

    SHAPE = (7, 4)

    def build(self, shape):
        self.kernel = self.add_weight(shape=self.SHAPE)


class Tokens(WithKernel):
    """Looks rows of a table up."""

    def call(self, x):
        return ops.take(self.kernel, x, axis=0)


class ClassToken(WithKernel):
    """Puts a token in front of each example."""

    SHAPE = (1, 1, 4)

    def call(self, x):
        return ops.concatenate([ops.tile(self.kernel, (ops.shape(x)[0], 1, 1)), x], axis=1)


class Positions(WithKernel):
    """A part of a table that is the same for all examples."""

    SHAPE = (9, 4)

    def call(self, x):
        return ops.broadcast_to(self.kernel[: x.shape[1]], ops.shape(x))


class Flat(layers.Layer):
    """Reshapes to the size of the batch."""

    def call(self, x):
        return ops.reshape(x, (ops.shape(x)[0], -1, x.shape[-1]))


class Cached(layers.Layer):
    """Takes an argument that what it is made of does not know."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, cache=None):
        return self.dense(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape)


class Block(layers.Layer):
    """Calls it with that argument; has a weight of its own, so that it stays closed."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.cached = Cached()

    def build(self, shape):
        self.scale = self.add_weight(shape=(4,))
        self.cached.build(shape)

    def call(self, x):
        return ops.multiply(self.scale, self.cached(x, cache=None))


class Experts(WithKernel):
    """The experts' axis goes before that of the examples."""

    SHAPE = (3, 4, 6)

    def call(self, x):
        each = ops.einsum("th,ehm->etm", ops.reshape(x, (-1, 4)), self.kernel)
        return ops.max(ops.einsum("etm,ehm->eth", each, self.kernel), axis=0)


def tokens(layer):
    inputs = keras.Input((5,), dtype="int32")
    return keras.Model(inputs, layers.Dense(3)(layer(Tokens()(inputs))))


def rows(layer, shape=(5, 4)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layers.Dense(3)(layer(inputs)))


def added(layer):
    return lambda x: layers.Add()([x, layer(x)])


MODELS = {
    "tokens": (lambda: tokens(layers.Dense(2)), 5 * 4 * 2 + 5 * 2 * 3),
    "class token": (lambda: rows(ClassToken()), 6 * 4 * 3),
    "positions": (lambda: rows(added(Positions())), 5 * 4 * 3),
    "flat": (lambda: rows(Flat(), (2, 3, 4)), 6 * 4 * 3),
    "other arguments": (lambda: rows(Block()), 5 * 4 * 4 + 5 * 4 * 3),
    "repeated examples": (lambda: rows(lambda x: ops.tile(x, (2, 1, 1))), 2 * 5 * 4 * 3),
    "pieces": (lambda: rows(lambda x: ops.reshape(x[:, 1:], (-1, 2, 4))), 2 * 2 * 4 * 3),
}


@pytest.mark.parametrize("name", MODELS)
def test_calls_are_counted_by_what_they_do(name):
    build, expected = MODELS[name]
    assert resrep_keras.count_macs(build()) == expected


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", MODELS)
def test_the_graph_multiplies_the_same(name):
    build, expected = MODELS[name]
    assert products(build()) == expected


@pytest.mark.parametrize(
    "move",
    [
        lambda x: ops.einsum("btc,cd->tbd", x, ops.ones((4, 4))),
        lambda x: ops.matmul(ops.ones((6, 5)), ops.mean(x, axis=0)),
        lambda x: x[0],
        lambda x: ops.squeeze(ops.mean(x, axis=0, keepdims=True), axis=0),
    ],
    ids=["einsum", "matmul", "first", "squeeze"],
)
def test_examples_that_are_moved_or_mixed_are_unknown(move):
    with pytest.warns(UserWarning, match="'last': its inputs have the examples along another axis"):
        inputs = keras.Input((5, 4))
        resrep_keras.count_macs(keras.Model(inputs, layers.Dense(3, name="last")(move(inputs))))


def test_experts_in_front_of_the_examples_are_named_and_not_multiplied_by_the_tokens():
    with pytest.warns(UserWarning, match="'einsum.*another axis"):
        model = rows(Experts(name="experts"))
        counted = resrep_keras.count_macs(model)
    assert counted == 5 * 4 * 3 * 6 + 5 * 4 * 3  # without the second product


def test_layers_built_for_any_length_are_counted_for_the_one_that_is_given():
    """An EinsumDense only says the length with which it was built: none."""
    inputs = keras.Input((None, 4))
    x = layers.EinsumDense("btc,chd->bthd", (None, 2, 3))(inputs)
    scores = ops.einsum("bqhd,bkhd->bhqk", x, x)
    model = keras.Model(inputs, ops.einsum("bhqk,bkhd->bqhd", scores, x))
    expected = 5 * 4 * 2 * 3 + 2 * 5 * 5 * 2 * 3
    assert resrep_keras.count_macs(model, (5, 4)) == expected
    if keras.backend.backend() == "tensorflow":
        assert products(model, example_inputs(model, 1, input_shape=(5, 4))) == expected


def automatic_numbers():
    """The numbers in the next automatic names of a layer, and of an operation of `keras.ops`."""
    inputs = keras.Input((5, 4))
    tile = keras.Model(inputs, ops.tile(inputs, (1, 1, 2))).operations[-1]
    names = layers.Dense(1).name, tile.name
    return [int("0" + "".join(filter(str.isdigit, name))) for name in names]


def test_a_look_inside_leaves_names_and_layers_as_they_were():
    model, other = rows(Block()), rows(ClassToken())
    before = automatic_numbers()
    resrep_keras.count_macs(model)
    resrep_keras.count_macs(other)
    assert automatic_numbers() == [number + 1 for number in before]
    assert "compute_output_spec" not in vars(model.layers[1].cached)
