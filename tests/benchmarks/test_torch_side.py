"""What the benchmark of Torch-Pruning carries over, by NumPy: no PyTorch is needed here."""

import keras
import numpy as np
import pytest
from keras import layers

from tests import paths

paths.benchmarks("torch_side.layouts")  # puts the folder on the path
from torch_side import layouts, ratios  # noqa: E402


def filled(model, seed=0):
    """Give a model random weights, the variances of its batch norms positive ones."""
    generator = np.random.default_rng(seed)
    model.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    return model


def carried(model):
    weights = [layer.get_weights() for layer in model.layers if layer.weights]
    return layouts.carried_over(model, weights)


def convolved(x, kernel, stride):
    """As PyTorch defines it, with one kernel an output channel, `(channels, rows, columns)`."""
    size = kernel.shape[-1]
    pads = [layouts.padding_same(n, size, stride) for n in x.shape[1:]]
    x = np.pad(x, [(0, 0), *pads])
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:])
    groups = x.shape[0] // kernel.shape[1]
    found = np.zeros((len(kernel), rows, columns))
    for out, own in enumerate(kernel):
        first = out * groups // len(kernel) * kernel.shape[1]
        read = x[first : first + kernel.shape[1]]
        for i in range(rows):
            for j in range(columns):
                window = read[:, i * stride : i * stride + size, j * stride : j * stride + size]
                found[out, i, j] = (window * own).sum()
    return found


def channels_first(array):
    return np.moveaxis(np.asarray(array), -1, 0)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (28, 5, 2, (1, 2)),  # 13 * 2 + 5 - 28 = 3
        (14, 3, 2, (0, 1)),  # 6 * 2 + 3 - 14 = 1
        (7, 3, 2, (1, 1)),
        (7, 3, 1, (1, 1)),
        (14, 1, 2, (0, 0)),
    ],
)
def test_padding_is_that_of_keras(size, kernel, stride, padding):
    assert layouts.padding_same(size, kernel, stride) == padding


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.Conv2D(3, 5, strides=2, padding="same", use_bias=False), "conv"),
        (layers.Conv2D(3, 3, padding="same", use_bias=False), "conv"),
        (layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False), "depthwise"),
    ],
)
def test_kernels_give_the_outputs_of_keras(layer, name):
    model = filled(keras.Sequential([keras.Input((6, 7, 2)), layer]))
    x = np.random.default_rng(1).normal(size=(1, 6, 7, 2)).astype("float32")
    kernel = carried(model)[f"{name}.0.weight"]
    found = convolved(channels_first(x[0]), kernel, layer.strides[0])
    np.testing.assert_allclose(found, channels_first(model(x)[0]), atol=1e-4)


def test_a_dense_layer_behind_flatten_reads_channels_first():
    stack = [keras.Input((2, 3, 4)), layers.Flatten(), layers.Dense(5), layers.Dense(2)]
    model = filled(keras.Sequential(stack))
    x = np.random.default_rng(1).normal(size=(1, 2, 3, 4)).astype("float32")
    found = carried(model)
    hidden = found["dense.0.weight"] @ channels_first(x[0]).ravel() + found["dense.0.bias"]
    outputs = found["dense.1.weight"] @ hidden + found["dense.1.bias"]
    np.testing.assert_allclose(outputs, np.asarray(model(x))[0], rtol=1e-4)


def test_names_of_batch_normalization():
    weights = [np.full(3, value) for value in (1.0, 2.0, 3.0, 4.0)]
    found = layouts.as_torch("norm", weights)  # gamma, beta, moving mean, moving variance
    assert {key: value[0] for key, value in found.items()} == {
        "weight": 1.0,
        "bias": 2.0,
        "running_mean": 3.0,
        "running_var": 4.0,
    }


def test_layers_are_numbered_as_they_were_made():
    assert layouts.order_made(["c_10", "c_9", "c", "c_2"]) == ["c", "c_2", "c_9", "c_10"]
    inputs = keras.Input((4, 4, 2))
    y = layers.Conv2D(3, 1)(inputs)
    y = layers.Conv2D(2, 1)(y)
    short = layers.Conv2D(2, 1)(inputs)  # made last; Keras lists layers by their depth
    model = filled(keras.Model(inputs, layers.Add()([short, y])))
    found = carried(model)
    shapes = [found[f"conv.{number}.weight"].shape[:2] for number in range(3)]
    assert shapes == [(3, 2), (2, 3), (2, 2)]


def test_the_order_of_images_is_that_of_the_seed():
    keras.utils.set_random_seed(1003)
    expected = [np.random.permutation(7), np.random.permutation(7)]
    np.testing.assert_array_equal(layouts.order_of(3, 2, 7), expected)


# --- ratios --------------------------------------------------------------------------------------


def steps(*shares):
    """What is left by a ratio, in equal steps."""
    return lambda ratio: shares[min(int(ratio * len(shares)), len(shares) - 1)]


def test_a_ratio_that_leaves_the_share():
    ratio, share = ratios.ratio_for(lambda ratio: (1 - ratio) ** 2, 0.25)
    assert abs(ratio - 0.5) < 1e-3 and abs(share - 0.25) < 1e-3


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((1.0, 0.302, 0.29), 0.302),  # 0.002 above, within the tolerance, is nearer than 0.01
        ((1.0, 0.302, 0.299), 0.299),
        ((1.0, 0.31, 0.25), 0.25),  # neither is near enough: what does not exceed the target
        ((1.0, 0.3, 0.2), 0.3),
    ],
)
def test_the_share_nearest_to_the_target(shares, expected):
    ratio, share = ratios.ratio_for(steps(*shares), 0.3)
    assert share == expected == steps(*shares)(ratio)


def test_where_nothing_reaches_the_target_the_least_is_told():
    assert ratios.ratio_for(lambda ratio: 1 - ratio / 2, 0.3)[1] == pytest.approx(0.5, abs=1e-3)
