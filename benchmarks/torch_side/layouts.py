"""What is carried over from Keras: weights, padding, the order of images; for either side.

Layers are numbered within their kind, in the order in which they were made, which is the same on
both sides: `"conv.0"`, `"depthwise.0"`, `"norm.0"`, `"dense.0"`.
"""

import re

import numpy as np

KINDS = {
    "Conv2D": "conv",
    "DepthwiseConv2D": "depthwise",
    "BatchNormalization": "norm",
    "Dense": "dense",
}
NORM = ("weight", "bias", "running_mean", "running_var")  # in the order of Keras


def order_made(names):
    """Names that Keras gave to layers of one class, in the order in which they were made."""

    def number(name):
        found = re.search(r"_(\d+)$", name)
        return int(found[1]) if found else -1

    return sorted(names, key=number)


def as_torch(kind, weights, read_shape=None):
    """The weights of one layer, `{name: array}`.

    Args:
        kind: One of the values of `KINDS`.
        weights: The arrays of `layer.get_weights()`.
        read_shape: Of a dense layer behind a `Flatten`: the shape that is flattened, such as
            `(4, 4, 64)`. Keras flattens channels last, PyTorch channels first.
    """
    if kind == "norm":
        return dict(zip(NORM, weights, strict=True))
    kernel, rest = weights[0], weights[1:]
    if kind == "conv":
        kernel = kernel.transpose(3, 2, 0, 1)
    elif kind == "depthwise":
        kernel = kernel.transpose(2, 3, 0, 1)
    else:
        kernel = kernel.T if read_shape is None else _of_flattened(kernel, read_shape)
    return dict(zip(("weight", "bias"), [np.ascontiguousarray(kernel), *rest]))


def _of_flattened(kernel, shape):
    units = kernel.shape[-1]
    return kernel.reshape(*shape, units).transpose(3, 2, 0, 1).reshape(units, -1)


def padding_same(size, kernel, stride):
    """`(before, after)` of Keras's padding "same" along one axis."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def carried_over(model, weights):
    """A Keras net's weights as PyTorch's, `{"conv.0.weight": array}`.

    Args:
        model: The net.
        weights: Lists of arrays of its layers that have weights, in the order of `model.layers`.
    """
    own = [layer for layer in model.layers if layer.weights]
    by_kind = {}
    for layer in own:
        by_kind.setdefault(type(layer).__name__, []).append(layer.name)
    places = {
        name: f"{KINDS[kind]}.{place}"
        for kind, names in by_kind.items()
        for place, name in enumerate(order_made(names))
    }
    found = {}
    for layer, arrays in zip(own, weights, strict=True):
        place = places[layer.name]
        made = as_torch(place.partition(".")[0], arrays, _flattened(model, layer))
        found.update({f"{place}.{key}": value for key, value in made.items()})
    return found


def _flattened(model, layer):
    """The shape that a `Flatten` before a layer reads, `None` where there is none."""
    flat = [other for other in model.layers if type(other).__name__ == "Flatten"]
    shapes = [other.input.shape[1:] for other in flat if other.output is layer.input]
    return shapes[0] if shapes else None


def order_of(seed, epochs, images):
    """Which image comes when in `Program.fit` under JAX, a row an epoch."""
    generator = np.random.RandomState(1000 + seed)  # that of `keras.utils.set_random_seed`
    return np.stack([generator.permutation(images) for _ in range(epochs)])
