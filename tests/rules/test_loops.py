"""Loops of `keras.ops`: their functions multiply as often as shapes tell; else that is said."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import paths

products = paths.benchmarks("products").products


class With(layers.Layer):
    """Calls a function with a kernel of its own."""

    def __init__(self, function, shape, **kwargs):
        super().__init__(**kwargs)
        self.function, self.shape = function, shape

    def build(self, shape):
        self.kernel = self.add_weight(shape=self.shape)

    def call(self, x):
        return self.function(x, self.kernel)


def model_of(function, kernel=(4, 4), shape=(5, 4)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, With(function, kernel, name="own")(inputs))


def over_time(function, x):
    """Steps along the first axis, examples along the second."""
    _, made = function(ops.transpose(x, (1, 0, 2)))
    return ops.transpose(made, (1, 0, 2))


def scanned(x, kernel):
    def step(state, entry):
        state = ops.tanh(ops.matmul(state, kernel) + entry)
        return state, state

    return over_time(lambda xs: ops.scan(step, xs[0], xs), x)


MAPS = {
    "map": (lambda x, k: ops.map(lambda one: ops.matmul(one, k), x), 5 * 4 * 4),
    "vectorized_map": (
        lambda x, k: ops.vectorized_map(lambda one: ops.matmul(one, k), x),
        5 * 4 * 4,
    ),
    "a vector": (
        lambda x, k: ops.map(lambda one: ops.matmul(one[0], ops.matmul(k, k)), x),
        4 * 4,
    ),
    "two_tensors": (
        lambda x, k: ops.map(lambda one: ops.matmul(one, ops.transpose(one)), x),
        5 * 4 * 5,
    ),
    "a map inside": (
        lambda x, k: ops.map(lambda one: ops.map(lambda row: ops.matmul(row, k), one), x),
        5 * 4 * 4,
    ),
    "scan": (scanned, 5 * 4 * 4),
    "fori_loop": (
        lambda x, k: ops.fori_loop(0, 3, lambda i, y: ops.matmul(y, k), x),
        3 * 5 * 4 * 4,
    ),
    "fori_loop backwards": (lambda x, k: ops.fori_loop(3, 0, lambda i, y: ops.matmul(y, k), x), 0),
    "switch": (
        lambda x, k: ops.switch(
            1, [lambda y: ops.matmul(y, k), lambda y: ops.matmul(ops.relu(y), k)], x
        ),
        5 * 4 * 4,
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_functions_count_as_often_as_shapes_tell(name):
    function, expected = MAPS[name]
    assert resrep_keras.count_macs(model_of(function)) == expected


# How often each loop runs for one example; and how often Keras writes the function of a `map` into
# the graph: once in the loop, and once to learn the shape of an entry.
TRIPS = {"map": (1, 2), "two_tensors": (1, 2), "vectorized_map": (1, 1)}
TRIPS |= {"scan": (5, 1), "fori_loop": (3, 1)}


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("name", TRIPS)
def test_the_graph_multiplies_the_same(name):
    function, expected = MAPS[name]
    trips, written = TRIPS[name]
    assert products(model_of(function), trips=trips) == written * expected


@pytest.mark.tensorflow_only
def test_a_loop_whose_trips_nobody_tells_is_no_count():
    with pytest.raises(NotImplementedError, match="While"):
        products(model_of(MAPS["fori_loop"][0]))


def test_a_loop_of_the_model_itself():
    inputs = keras.Input((5, 4))
    kernel = np.ones((4, 3), "float32")
    mapped = ops.map(lambda one: ops.matmul(one, kernel), inputs)
    model = keras.Model(inputs, layers.Dense(2)(mapped))
    assert resrep_keras.count_macs(model) == 5 * 4 * 3 + 5 * 3 * 2


def test_a_layer_at_each_entry():
    class Mapped(layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return ops.map(self.dense, x)

    inputs = keras.Input((5, 4))
    assert resrep_keras.count_macs(keras.Model(inputs, Mapped()(inputs))) == 5 * 4 * 3


DATA = {
    "while_loop": lambda x, k: ops.while_loop(
        lambda y: ops.sum(y) < 1.0, lambda y: (ops.matmul(y, k),), (x,)
    )[0],
    "cond": lambda x, k: ops.cond(
        ops.sum(x) > 0, lambda: ops.matmul(x, k), lambda: ops.matmul(ops.relu(x), k)
    ),
    "branches that cost differently": lambda x, k: ops.switch(
        0, [lambda y: ops.matmul(y, k), lambda y: y], x
    ),
    "bounds of tensors": lambda x, k: ops.fori_loop(
        0, ops.cast(ops.sum(x), "int32"), lambda i, y: ops.matmul(y, k), x
    ),
}


# JAX does not try the branches of `cond` on symbolic tensors at all.
WHY = ".*(is a matter of the data|is told by a tensor|does not run on symbolic tensors)"


@pytest.mark.parametrize("name", DATA)
def test_what_the_data_decide_is_named(name):
    with pytest.warns(UserWarning, match=f"'own': {WHY}"):
        assert resrep_keras.count_macs(model_of(DATA[name])) == 0


def test_pairs_that_an_associative_scan_takes_are_unknown():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, ops.associative_scan(ops.multiply, inputs, axis=1))
    with pytest.warns(UserWarning, match="functions of AssociativeScan run"):
        assert resrep_keras.count_macs(model) == 0
