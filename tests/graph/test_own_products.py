"""Products with a layer's own weights, written as layers of Keras."""

import keras
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import recording_of


class Own(layers.Layer):
    """Calls a function of tensors with its own matrix and vector."""

    def __init__(self, function, shape=(4, 6), **kwargs):
        super().__init__(**kwargs)
        self.function, self.shape = function, shape
        self.dropout = layers.Dropout(0.1)

    def build(self, input_shape):
        self.matrix = self.add_weight(shape=self.shape, name="matrix")
        self.vector = self.add_weight(shape=self.shape[-1:], name="vector")

    def call(self, x):
        return self.dropout(self.function(x, self.matrix, self.vector))


def called(function, *sizes, **settings):
    """Names of what is called inside, and the `EinsumDense` layers among it."""
    inputs = keras.Input((*sizes, 4))
    recording = recording_of(keras.Model(inputs, Own(function, name="own", **settings)(inputs)))
    operations = [recorded.operation for recorded in recording.calls[:-1]]  # the last is a name
    made = [each for each in operations if isinstance(each, layers.EinsumDense)]
    return [each.name for each in operations], made


@pytest.mark.parametrize(
    ("function", "sizes", "equation"),
    [
        (lambda x, w, b: ops.matmul(x, w) + b, (), "ax,xy->ay"),
        (lambda x, w, b: b + x @ w, (5,), "abx,xy->aby"),
        (lambda x, w, b: ops.add(ops.einsum("btc,cd->btd", x, w), b), (5,), "btc,cd->btd"),
        (lambda x, w, b: ops.einsum("cd,bc->bd", w, x) + b, (), "bc,cd->bd"),
    ],
)
def test_a_product_and_a_sum_are_one_layer(function, sizes, equation):
    names, (layer,) = called(function, *sizes)
    assert names[0] == "own_matrix" and len(names) == 2 and names[1].startswith("dropout")
    assert layer.equation == equation and layer.bias_axes == equation[-1]


def test_a_matrix_that_is_turned():
    function = lambda x, w, b: ops.matmul(x, ops.transpose(w)) * b[0]  # noqa: E731
    _, made = called(function, shape=(6, 4))
    assert "ax,yx->ay" in [layer.equation for layer in made]


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, b: ops.matmul(x, w) + b + ops.sum(w),  # read twice
        lambda x, w, b: ops.matmul(x, w * 2.0) + b,  # of something else
        lambda x, w, b: ops.matmul(x, w) @ ops.ones((6, 6)) + b,
    ],
)
def test_what_is_no_such_product_stays(function):
    _, made = called(function)
    simple = [layer for layer in made if layer.equation == "ax,xy->ay"]
    assert len(made) == 2 and (not simple or simple[0].bias_axes is None)


def test_the_weights_are_those_of_the_layer():
    inputs = keras.Input((5, 4))
    own = Own(lambda x, w, b: ops.relu(x @ w + b))
    recording = recording_of(keras.Model(inputs, own(own(inputs)[..., :4])))
    made = [c.operation for c in recording.calls if isinstance(c.operation, layers.EinsumDense)]
    layer, again = made
    assert layer is again
    assert layer.kernel is own.matrix and layer.bias is own.vector
