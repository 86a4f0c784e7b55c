"""repair: layers that lost inputs make what they made before, as far as the rest can tell."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.surgery import repair as module
from resrep_keras.surgery.examples import Examples
from resrep_keras.surgery.remove import remove
from resrep_keras.surgery.repair import repair

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.normal(size=(64, 8, 8, 3)).astype("float32")
ROWS = GENERATOR.normal(size=(200, 6)).astype("float32")


def dense_net(**settings):
    inputs = keras.Input((6,))
    x = layers.Dense(8, name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="second", **settings)(x))


def conv_net(behind=None, norm=False, **settings):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = (behind or layers.Conv2D(5, 3, **settings))(x)
    x = layers.BatchNormalization(name="norm")(x) if norm else x
    return keras.Model(inputs, layers.Dense(2, name="last")(layers.GlobalAveragePooling2D()(x)))


def cut(model, keep, data):
    """Graph, keep array, slim model, examples."""
    graph = trace(model)
    kept = graph.keep_array(keep)
    return graph, kept, remove(graph, kept), Examples(model, data)


def error(model, slim, data):
    before, after = (ops.convert_to_numpy(each(data)) for each in (model, slim))
    return float(np.square(before - after).mean())


def test_what_depends_linearly_on_the_rest_is_made_up_for(monkeypatch):
    """Eight sums of six inputs: any six of them hold all that there is to know."""
    monkeypatch.setattr(module, "RIDGE", 1e-9)
    model = dense_net()
    keep = {"first": np.arange(8) < 6}
    graph, kept, slim, examples = cut(model, keep, ROWS)
    assert error(model, slim, ROWS) > 1e-2
    assert repair(graph, kept, graph.recording, recording_of(slim), examples) == ("second",)
    assert error(model, slim, ROWS) < 1e-8


@pytest.mark.parametrize("use_bias", (True, False))
def test_it_is_the_ridge_regression_on_what_is_missing(use_bias):
    model = dense_net(use_bias=use_bias)
    mask = np.arange(8) < 3
    graph, kept, slim, examples = cut(model, {"first": mask}, ROWS)
    old = ops.convert_to_numpy(model.get_layer("second").kernel).astype("float64")
    read = ops.convert_to_numpy(model.get_layer("first")(ROWS)).astype("float64")
    repair(graph, kept, graph.recording, recording_of(slim), examples)
    left, gone = read[:, mask], read[:, ~mask]
    means = (left.mean(0), gone.mean(0)) if use_bias else (0.0, 0.0)
    left, gone = left - means[0], gone - means[1]
    squares = left.T @ left / len(left)
    ridge = 1e-3 * np.diag(squares).mean() * np.eye(3)
    change = np.linalg.solve(squares + ridge, left.T @ gone / len(left)) @ old[~mask]
    layer = slim.get_layer("second")
    np.testing.assert_allclose(layer.kernel, old[mask] + change, atol=1e-5)
    if use_bias:
        offsets = means[1] @ old[~mask] - means[0] @ change
        np.testing.assert_allclose(layer.bias, offsets, atol=1e-5)


CONSUMERS = {
    "same": lambda: layers.Conv2D(5, 3, padding="same"),
    "strides": lambda: layers.Conv2D(5, 3, 2, padding="same"),
    "dilation": lambda: layers.Conv2D(5, 2, dilation_rate=2),
    "without bias": lambda: layers.Conv2D(5, 3, use_bias=False),
    "activation": lambda: layers.Conv2D(5, 3, activation="tanh"),
    "separable": lambda: layers.SeparableConv2D(5, 3),
    "transposed": lambda: layers.Conv2DTranspose(5, 3, 2),
    "dense": lambda: layers.Dense(5),
}


@pytest.mark.parametrize("name", CONSUMERS)
def test_each_consumer_comes_closer_to_what_it_made(name):
    keras.utils.set_random_seed(0)
    model = conv_net(CONSUMERS[name]())
    keep = {"first": np.arange(8) < 5}
    graph, kept, slim, examples = cut(model, keep, IMAGES)
    before = error(model, slim, IMAGES)
    names = repair(graph, kept, graph.recording, recording_of(slim), examples)
    assert names == (model.layers[2].name, "last")
    assert error(model, slim, IMAGES) < 0.7 * before


def test_a_batch_normalisation_behind_takes_up_the_offset():
    keras.utils.set_random_seed(0)
    model = conv_net(norm=True, use_bias=False, name="second")
    graph, kept, slim, examples = cut(model, {"first": np.arange(8) < 5}, IMAGES)
    repair(graph, kept, graph.recording, recording_of(slim), examples)
    means = []
    for each in (model, slim):
        made = keras.Model(each.input, each.get_layer("norm").output)(IMAGES)
        means.append(ops.convert_to_numpy(made).mean((0, 1, 2)))
    np.testing.assert_allclose(*means, atol=1e-4)


def test_later_layers_are_fitted_to_what_they_read_by_then():
    """They have lost nothing themselves, and make up for what is left of the error in front."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="first")(inputs)
    x = layers.Dense(8, activation="relu", name="second")(x)
    model = keras.Model(inputs, layers.Dense(3, name="third")(x))
    graph, kept, slim, examples = cut(model, {"first": np.arange(8) < 4}, ROWS)
    assert repair(graph, kept, graph.recording, recording_of(slim), examples) == ("second", "third")
    made = [layer.get_weights() for layer in slim.layers]
    slim.get_layer("third").set_weights(model.get_layer("third").get_weights())
    with_old = error(model, slim, ROWS)
    for layer, weights in zip(slim.layers, made):
        layer.set_weights(weights)
    assert error(model, slim, ROWS) < with_old


def test_what_stands_in_front_or_apart_is_left_alone():
    inputs = keras.Input((6,))
    first = layers.Dense(8, name="first")(inputs)
    apart = layers.Dense(3, name="apart")(inputs)
    outputs = layers.Dense(3, name="second")(first)
    model = keras.Model(inputs, [outputs, apart])
    graph, kept, slim, examples = cut(model, {"first": np.arange(8) < 4}, ROWS)
    assert repair(graph, kept, graph.recording, recording_of(slim), examples) == ("second",)
    for name in ("first", "apart"):
        layer, old = slim.get_layer(name), model.get_layer(name)
        mask = np.arange(old.units) < layer.units
        np.testing.assert_array_equal(layer.kernel, ops.convert_to_numpy(old.kernel)[:, mask])


def test_a_layer_that_is_called_twice_is_fitted_to_both_calls():
    inputs = keras.Input((6,))
    layer = layers.Dense(6, name="shared")
    x = layers.Dense(8, name="first")(inputs)
    a, b = layers.Dense(6, name="a")(x), layers.Dense(6, name="b")(inputs)
    outputs = layers.Concatenate()([layer(a), layer(b)])
    model = keras.Model(inputs, outputs)
    graph, kept, slim, examples = cut(model, {"first": np.arange(8) < 4}, ROWS)
    before = error(model, slim, ROWS)
    assert repair(graph, kept, graph.recording, recording_of(slim), examples) == ("a", "shared")
    assert error(model, slim, ROWS) < before


def frozen(model):
    model.get_layer("second").trainable = False


def constrained(model):
    model.get_layer("second").kernel.constraint = keras.constraints.NonNeg()


@pytest.mark.parametrize("change", (frozen, constrained))
def test_what_is_frozen_or_constrained_stays(change):
    model = dense_net()
    graph, kept, slim, examples = cut(model, {"first": np.arange(8) < 4}, ROWS)
    change(slim)
    before = slim.get_weights()
    assert repair(graph, kept, graph.recording, recording_of(slim), examples) == ()
    assert all(np.array_equal(a, b) for a, b in zip(before, slim.get_weights()))


def test_few_rows_do_for_a_small_layer(monkeypatch):
    """What is drawn of the positions says the same, about."""
    keras.utils.set_random_seed(0)
    model = conv_net(name="second")
    kernels = []
    for few in (10**9, 1000):
        monkeypatch.setattr(module, "FEW_ROWS", few)
        graph, kept, slim, examples = cut(model, {"first": np.arange(8) < 7}, IMAGES)
        repair(graph, kept, graph.recording, recording_of(slim), examples)
        kernels.append(ops.convert_to_numpy(slim.get_layer("second").kernel))
    plain = ops.convert_to_numpy(model.get_layer("second").kernel)[:, :, :7]
    changed = np.abs(kernels[0] - plain).max()
    assert 0 < np.abs(kernels[0] - kernels[1]).max() < changed


def test_moments_are_held_of_as_much_as_the_widest_layer_has(monkeypatch):
    widths = [3, 4, 5, 10, 2]
    pairs = [module._Pair(str(k), None, None, width) for k, width in enumerate(widths)]
    assert [[pair.inputs for pair in group] for group in module._groups(pairs)] == [
        [width] for width in widths
    ]
    monkeypatch.setattr(module, "PASSES", 2)
    groups = [[pair.inputs for pair in group] for group in module._groups(pairs)]
    assert groups == [[3, 4, 5], [10], [2]]
