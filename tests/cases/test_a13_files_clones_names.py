"""Files of the older format, clones, names that are taken and functions of one's own."""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.remove import remove
from tests import helpers


def net(names=("a", "b"), shape=(6,)):
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input(shape)
    for name in names:
        x = layers.Dense(8, activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(2)(x), name="net")


def data():
    generator = np.random.default_rng(0)
    return [generator.normal(size=(32, size)).astype("float32") for size in (6, 2)]


METHODS = {
    "ResRep": lambda: resrep_keras.ResRep(0.2),
    "GraNet": lambda: resrep_keras.GraNet(0.5),
    "magnitude": lambda: resrep_keras.MagnitudePruning(0.2),
    "lasso": lambda: resrep_keras.GroupLasso(0.2),
    "Taylor": lambda: resrep_keras.TaylorPruning(0.2),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_file_of_the_older_format(name, tmp_path):
    x, y = data()
    wrapped = resrep_keras.wrap(net(), METHODS[name]())
    wrapped.compile(keras.optimizers.Adam(1e-3), keras.losses.MeanSquaredError())
    wrapped.fit(x, y, batch_size=8, epochs=10, verbose=0)
    paths = [variable.path for variable in wrapped.optimizer.variables]
    assert len(set(paths)) == len(paths)
    with pytest.warns(UserWarning, match="begins a new run"):
        wrapped.save(tmp_path / "wrapped.h5")
    loaded = keras.models.load_model(tmp_path / "wrapped.h5")
    np.testing.assert_array_equal(*(ops.convert_to_numpy(m(x)) for m in (wrapped, loaded)))
    assert loaded.method.get_config() == wrapped.method.get_config()
    loaded.fit(x, y, batch_size=8, epochs=10, verbose=0)
    assert np.isfinite(loaded.evaluate(x, y, verbose=0))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_clone_would_have_no_method(compiled):
    wrapped = resrep_keras.wrap(net())
    if compiled:
        wrapped.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"cannot be cloned by keras.models.clone_model.*method"):
        keras.models.clone_model(wrapped)
    copy = type(wrapped).from_config(wrapped.get_config())
    assert copy.method.get_config() == wrapped.method.get_config()


@pytest.mark.parametrize("names", [("a", "a_compactor"), ("a_compactor", "a", "a_compactor_1")])
def test_names_that_compactors_would_have(names):
    dense = net(names)
    wrapped = resrep_keras.wrap(dense)
    assert {layer.name for layer in dense.layers} <= {layer.name for layer in wrapped.layers}
    found = helpers.compactors(wrapped)
    assert len(found) == len(names) == len({layer.name for layer in found})
    assert not isinstance(wrapped.get_layer("a_compactor"), Compactor)
    assert helpers.difference(dense, wrapped) < 1e-6
    wrapped.method = None
    slim = resrep_keras.finalize(wrapped)
    assert [layer.name for layer in slim.layers] == [layer.name for layer in dense.layers]


def test_an_input_that_is_called_like_a_compactor():
    inputs = keras.Input((6,), name="a_compactor")
    x = layers.Dense(8, activation="relu", name="a")(inputs)
    wrapped = resrep_keras.wrap(keras.Model(inputs, layers.Dense(2)(x)))
    assert wrapped.layers[0].name == "a_compactor"


def test_names_that_gates_would_have(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6))
    x = layers.LSTM(8, name="l")(inputs)
    x = layers.Dense(8, activation="relu", name="l_units_compactor")(x)
    dense = keras.Model(inputs, layers.Dense(2)(x))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.2))
    x = np.random.default_rng(0).normal(size=(16, 5, 6)).astype("float32")
    wrapped.compile(keras.optimizers.Adam(1e-3), keras.losses.MeanSquaredError())
    wrapped.fit(x, x[:, 0, :2], epochs=20, verbose=0)
    assert not isinstance(wrapped.get_layer("l_units_compactor"), Compactor)
    for name in ("wrapped.keras", "wrapped.h5"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A file in the older format")
            wrapped.save(tmp_path / name)
        loaded = keras.models.load_model(tmp_path / name)
        np.testing.assert_array_equal(*(ops.convert_to_numpy(m(x)) for m in (wrapped, loaded)))


# --- functions ------------------------------------------------------------------------------------


def squared(x):
    return ops.relu(x) ** 2


def of_factory(factor):
    def activation(x):
        return factor * ops.relu(x)

    return activation


class Mean(keras.regularizers.Regularizer):
    def __call__(self, x):
        return ops.mean(ops.abs(x))


FUNCTIONS = {
    "lambda": lambda x: ops.relu(x) * 1.5,
    "function": squared,
    "closure": of_factory(3.0),
    "partial": functools.partial(ops.leaky_relu, negative_slope=0.3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_in_settings_of_keras_layers(name):
    keras.utils.set_random_seed(0)
    function = FUNCTIONS[name]
    inputs = keras.Input((4, 6))
    x = layers.Dense(
        8,
        activation=function,
        kernel_initializer=lambda shape, dtype=None: ops.ones(shape, dtype) * 0.1,
        kernel_regularizer=lambda weight: 0.1 * ops.sum(ops.abs(weight)),
        bias_regularizer=Mean(),
        kernel_constraint=lambda weight: ops.maximum(weight, 0.0),
        name="a",
    )(inputs)
    x = layers.Activation(of_factory(2.0))(layers.Dense(8, activation=of_factory(5.0))(x))
    x = layers.LSTM(6, activation=function, return_sequences=True)(x)
    x = layers.RNN(layers.GRUCell(6, activation=of_factory(0.5)))(x)
    dense = keras.Model(inputs, layers.Dense(2)(x))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.05))
    assert helpers.difference(dense, wrapped) < 1e-6
    assert float(sum(wrapped.losses)) == pytest.approx(float(sum(dense.losses)), rel=1e-5)
    slim = resrep_keras.MagnitudePruning(0.05).prune(dense)
    assert slim.get_layer("a").activation is function
    wrapped.method = None
    assert helpers.difference(dense, resrep_keras.finalize(wrapped)) < 1e-5


def test_functions_in_a_gated_layer_that_gets_narrower():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 6))
    x = layers.LSTM(8, activation=lambda x: ops.tanh(x), name="lstm")(inputs)
    dense = keras.Model(inputs, layers.Dense(2)(x))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.2))
    graph = trace(wrapped)
    kept = np.ones(graph.num_channels, bool)
    (producer,) = (p for group in graph.groups for p in group.producers if p.layer == "lstm")
    kept[producer.channels[:3]] = False
    narrower = remove(graph, kept)
    gate = wrapped.get_layer("lstm").gates["units"]
    gate.kernel.assign(gate.kernel * (np.arange(8) >= 3))
    assert narrower.get_layer("lstm").layer.units == 5
    assert narrower.get_layer("lstm").layer.activation is dense.get_layer("lstm").activation
    assert helpers.difference(wrapped, narrower) < 1e-5


def test_a_function_that_is_called_like_one_of_kerass():
    def relu(x):
        return -ops.relu(x)

    inputs = keras.Input((6,))
    x = layers.Dense(8, activation=relu)(inputs)
    dense = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, activation="relu")(x)))
    assert helpers.difference(dense, resrep_keras.wrap(dense)) < 1e-6
