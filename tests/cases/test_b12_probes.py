"""What a function does to channels is tried on numbers it takes; where it raises, that is said."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.trace import trace
from tests import helpers, zoo


def net(function, data_format="channels_last"):
    shape = (6, 6, 3) if data_format == "channels_last" else (3, 6, 6)
    inputs = keras.Input(shape)
    x = layers.Conv2D(8, 3, activation="sigmoid", data_format=data_format, name="conv")(inputs)
    x = layers.Activation(function, name="function")(x)
    x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    zoo.randomise(model, 0)
    return model


def pin_of(model):
    (group,) = (group for group in trace(model).groups if group.name == "conv")
    return group.reason


@pytest.mark.parametrize("function", [ops.sqrt, ops.rsqrt, ops.log1p, ops.log])
def test_roots_and_logarithms_let_channels_pass(function):
    """Behind a sigmoid: a removed channel is 1/2 before the function, a constant behind it."""
    model = net(function)
    assert pin_of(model) is None
    slim = resrep_keras.MagnitudePruning(0.3).prune(model)
    assert slim.get_layer("conv").filters < 8
    x = helpers.example_inputs(model, 4)
    kept = [
        np.flatnonzero(
            [np.allclose(o, k) for o in np.moveaxis(model.layers[1].get_weights()[0], -1, 0)]
        )
        for k in np.moveaxis(slim.layers[1].get_weights()[0], -1, 0)
    ]
    assert all(len(k) == 1 for k in kept)
    kept = np.concatenate(kept)
    # The dense model with the other filters at zero, so that they give sigmoid(0) = 1/2.
    kernel, bias = model.get_layer("conv").get_weights()
    gone = np.setdiff1d(np.arange(8), kept)
    kernel[..., gone], bias[gone] = 0, 0
    model.get_layer("conv").set_weights([kernel, bias])
    np.testing.assert_allclose(slim(x), model(x), atol=1e-5)


@pytest.mark.parametrize("function", [ops.log, ops.rsqrt, ops.reciprocal])
def test_where_zero_becomes_infinite_channels_stay(function):
    inputs = keras.Input((6,))
    x = ops.square(layers.Dense(8, use_bias=False, name="wide")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(function(x)))
    (group,) = (group for group in trace(model).groups if group.name == "wide")
    assert group.reason.kind is PinKind.NOT_FINITE and "no finite value at zero" in str(
        group.reason
    )
    assert "1e-3" in group.reason.remedy


def broken(x):
    raise RuntimeError("the table is not ready")


def needs_positive(x):
    return ops.sqrt(-1.0 - ops.square(x))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: broken(x) if x.shape[0] == 2 else x, "RuntimeError: the table is not ready"),
        (needs_positive, "ValueError: it gives no finite number"),
    ],
)
def test_a_function_that_cannot_be_tried_is_told_with_its_error(function, text):
    reason = pin_of(net(function))
    assert reason.kind is PinKind.UNTRIED
    assert f"a function that could not be tried on arrays: {text}" in str(reason)
    assert "keras.ops" in reason.remedy and "mixes" not in str(reason)


def test_a_function_that_mixes_channels_is_told_so():
    reason = pin_of(net(lambda x: x - ops.mean(x, -1, keepdims=True)))
    assert reason.kind is PinKind.MIXES and "a function that mixes channels" in str(reason)


@pytest.mark.tensorflow_only
def test_channels_first_are_tried_along_their_axis():
    def over_channels(x):
        return ops.softmax(x, axis=1)

    assert pin_of(net(over_channels, "channels_first")).kind is PinKind.MIXES
    assert pin_of(net(lambda x: ops.softmax(x, axis=3), "channels_first")) is None


def test_a_constant_that_differs_between_positions_is_no_constant():
    """Behind it, zeros of a channel are 0, 1, 2, ...: a padded convolution cannot fold them."""
    places = np.arange(16, dtype="float32").reshape(4, 4, 1)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="conv")(inputs) + places
    x = layers.Conv2D(4, 3, name="reader")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    zoo.randomise(model, 0)
    wrapped = resrep_keras.wrap(model, resrep_keras.MagnitudePruning(0.1))
    for layer in helpers.compactors(wrapped):
        mask = np.arange(layer.keep_mask.shape[0]) > 0
        layer.keep_mask.assign(mask)
        layer.kernel.assign(layer.kernel * mask)
    x = helpers.example_inputs(model, 4)
    expected = ops.convert_to_numpy(wrapped(x))
    with pytest.warns(UserWarning, match="target is not met"):
        slim = resrep_keras.finalize(wrapped)
    np.testing.assert_allclose(slim(x), expected, rtol=1e-4, atol=1e-4)
