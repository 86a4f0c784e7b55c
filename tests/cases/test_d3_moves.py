"""Channels on the move are removed exactly: over space and back, into heads, through constants."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import helpers, zoo

# name: (builds the model, channels that may go in each group that has any)
CASES, case = helpers.cases()


def head(x):
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Dense(7, "relu")(x)))


def image_head(x):
    return zoo.head(layers.Conv2D(5, 3, padding="same", activation="relu")(x))


def conv(x, filters, **kwargs):
    return layers.Conv2D(filters, 3, padding="same", activation="relu", **kwargs)(x)


# --- over space and back --------------------------------------------------------------------------


@case(6, 4)
def generator():
    """49 units, here 16, are one later channel."""
    inputs = keras.Input((5,))
    x = layers.BatchNormalization()(layers.Dense(4 * 4 * 6, use_bias=False)(inputs))
    x = layers.Reshape((4, 4, 6))(layers.LeakyReLU()(x))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.LeakyReLU()(layers.BatchNormalization()(x))
    outputs = layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="tanh")(x)
    return keras.Model(inputs, outputs)


@case(3, 5)
def wide_generator():
    """Positions are more than channels."""
    inputs = keras.Input((5,))
    x = layers.Reshape((8, 8, 3))(layers.Dense(8 * 8 * 3, activation="relu")(inputs))
    return keras.Model(inputs, zoo.head(conv(x, 5)))


@case(3, 5)
def generator_of_channels_first():
    inputs = keras.Input((5,))
    x = layers.Reshape((3, 16))(layers.Dense(3 * 16, activation="relu")(inputs))
    x = layers.Conv1D(5, 1, activation="relu")(layers.Permute((2, 1))(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@case(6, 4)
def pixel_shuffle():
    inputs = zoo.image(4)
    x = layers.Conv2D(16, 3, padding="same")(conv(inputs, 6))
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((4, 4, 2, 2, 4))(x))
    x = layers.ReLU()(layers.Reshape((8, 8, 4))(x))
    return keras.Model(inputs, layers.Conv2D(3, 3, padding="same")(x))


@case(6, 5)
def space_to_depth():
    inputs = zoo.image(4)
    x = ops.reshape(conv(inputs, 6), (-1, 2, 2, 2, 2, 6))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 2, 2, 24))
    return keras.Model(inputs, image_head(x))


@case(4, 4, 5)
def channel_shuffle():
    """The same of each group goes, so that the groups stay equally wide."""
    inputs = zoo.image(4)
    x = layers.BatchNormalization()(layers.Conv2D(12, 1, groups=3)(conv(inputs, 12)))
    x = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 3, 4))(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(layers.Reshape((4, 4, 12))(x))
    return keras.Model(inputs, image_head(layers.BatchNormalization()(x)))


@case(4, 5)
def channel_shuffle_of_operations():
    inputs = zoo.image(4)
    x = ops.reshape(conv(inputs, 12), (-1, 4, 4, 3, 4))
    x = ops.reshape(ops.swapaxes(x, 3, 4), (-1, 4, 4, 12))
    return keras.Model(inputs, image_head(x))


@case(7, 5)
def branches_in_a_stack():
    """A softmax over branches, which lie in front of the examples."""
    inputs = zoo.image(4)
    u, v = (layers.Conv2D(7, size, padding="same", activation="relu")(inputs) for size in (1, 3))
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(u + v)
    parts = ops.stack([layers.Dense(7)(pooled), layers.Dense(7)(pooled)], 0)
    weights = ops.softmax(parts, axis=0)
    return keras.Model(inputs, image_head(u * weights[0] + v * weights[1]))


# --- heads ----------------------------------------------------------------------------------------


@case(3, 7)
def heads_by_hand():
    inputs = keras.Input((5, 6))
    q, k, v = (ops.reshape(layers.Dense(12)(inputs), (-1, 5, 3, 4)) for _ in range(3))
    q, k, v = (ops.transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 0.5)
    x = ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3))
    return keras.Model(inputs, head(ops.reshape(x, (-1, 5, 12))))


@case(4, 7)
def heads_of_one_projection():
    """Queries, keys and values lie along an axis of their own."""
    inputs = keras.Input((5, 6))
    parts = ops.reshape(layers.Dense(3 * 4 * 2)(inputs), (-1, 5, 3, 4, 2))
    q, k, v = (parts[:, :, number] for number in range(3))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k))
    x = ops.einsum("bhqk,bkhd->bqhd", scores, v)
    return keras.Model(inputs, head(layers.Reshape((5, 8))(x)))


@case(3, 7)
def heads_by_einsum():
    inputs = keras.Input((5, 6))
    q, k, v = (layers.Reshape((5, 3, 4))(layers.Dense(12)(inputs)) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) * 0.5)
    x = ops.einsum("bhqk,bkhd->bqhd", scores, v)
    return keras.Model(inputs, head(layers.Reshape((5, 12))(x)))


# --- positions ------------------------------------------------------------------------------------


@case(8, 7)
def positions_of_two_tensors():
    """A class token in front of the others: channels are equal, and none goes alone."""
    inputs = keras.Input((5, 6))
    token = layers.Reshape((1, 8))(layers.Dense(8)(layers.GlobalAveragePooling1D()(inputs)))
    return keras.Model(inputs, head(layers.Concatenate(axis=1)([token, layers.Dense(8)(inputs)])))


# --- layers and operations together ---------------------------------------------------------------


@case(8, 5)
def spatial_attention():
    """Means over channels are those over as many as there were; zeros win no maximum."""
    inputs = zoo.image(4)
    x = conv(inputs, 8)
    both = [ops.mean(x, -1, keepdims=True), ops.max(x, -1, keepdims=True)]
    gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(ops.concatenate(both, -1))
    return keras.Model(inputs, image_head(x * gate))


@case(8, 5)
def padded_shortcut():
    """New channels meet those of a convolution, and go with them."""
    inputs = zoo.image(4)
    x = conv(inputs, 4)
    y = ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))
    return keras.Model(inputs, image_head(layers.Conv2D(8, 3, 2, padding="same")(x) + y))


@case(6, 5)
def padded_before_a_maximum():
    inputs = zoo.image(4)
    x = ops.pad(conv(inputs, 6), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    return keras.Model(inputs, image_head(layers.MaxPooling2D(3, 2)(x)))


@case(3, 8, 7)
def blocks_of_positions():
    inputs = zoo.image(4)
    if "depth_to_space" in vars(ops):
        x = ops.depth_to_space(conv(inputs, 12), 2)
        x = ops.space_to_depth(conv(x, 8), 2)
    else:  # an older Keras
        x = conv(conv(inputs, 3), 8)
    x = ops.image.extract_patches(x, 3, padding="same")
    return keras.Model(inputs, zoo.head(layers.Conv2D(7, 1, activation="relu")(x)))


@case(4, 5)
def maxout():
    inputs = zoo.image(4)
    x = ops.max(layers.Reshape((4, 4, 4, 2))(layers.Conv2D(8, 3, padding="same")(inputs)), -1)
    return keras.Model(inputs, image_head(x))


@case(8, 8, 7)
def similarity():
    """A product that is summed, behind what needs zeros of both factors."""
    inputs = keras.Input((5, 6))
    x, y = (layers.Dense(8)(inputs) for _ in range(2))
    x, y = ops.normalize(x, -1), y / (ops.norm(y, axis=(-1,), keepdims=True) + 1e-3)
    distances = ops.sum(ops.square(x[:, :, None] - y[:, None]), -1)
    near = ops.sum(x * y, -1, keepdims=True)
    return keras.Model(inputs, head(ops.concatenate([layers.Dense(8)(distances), near], -1)))


# --- one operation behind one layer ---------------------------------------------------------------

ROW = np.linspace(0.5, 1.5, 8, dtype="float32")
TABLE = np.linspace(0.5, 1.5, 48, dtype="float32").reshape(6, 8)
TIMES = [1, 2, 0, 1, 3, 1, 1, 1]

# family: {name: (what is made of 8 channels at 6 positions, how many of them may go)}
FAMILIES = {
    "arrays": {
        "times": (lambda x: x * ROW, 8),
        "plus": (lambda x: x + ROW, 8),
        "minus": (lambda x: ops.subtract(ROW, x), 8),
        "divided": (lambda x: ops.divide(x, x2=ROW), 8),
        "positions": (lambda x: x * TABLE, 8),
        "positions_that_stay": (lambda x: x + TABLE, 0),
        "mask": (lambda x: ops.where(ROW > 1, x, 0.0), 8),
        "mask_of_values": (lambda x: ops.where(x > 0.2, x, -1.0), 8),
        "tensor": (lambda x: ops.maximum(x, ops.convert_to_tensor(ROW)), 8),
        "zeros": (lambda x: ops.concatenate([x, ops.zeros_like(x)], -1), 8),
        "compared": (lambda x: x * ops.cast(x > ROW, "float32"), 8),
    },
    "sums": {
        "sum": (lambda x: x * ops.sum(x, -1, keepdims=True), 8),
        "mean": (lambda x: ops.mean(x, -1), 8),
        "mean_of_all": (lambda x: x * ops.mean(x, (1, 2), keepdims=True), 8),
        "largest": (lambda x: x * ops.max(x, -1, keepdims=True), 8),
        "largest_of_any": (lambda x: x * ops.max(x - 1.0, -1, keepdims=True), 0),
        "variance": (lambda x: x * ops.var(x, -1, keepdims=True), 0),
        "deviation": (lambda x: x * ops.std(x, 1, keepdims=True), 8),
        "responses": (
            lambda x: x * ops.norm(x, axis=(1,), keepdims=True) / (1e-3 + _mean_of_norms(x)),
            8,
        ),
        "root_mean_square": (
            lambda x: x * ops.rsqrt(ops.mean(x * x, -1, keepdims=True) + 1e-3) * ROW,
            8,
        ),
        "exponentials": (lambda x: ops.logsumexp(x, 1), 8),
        "running_sum": (lambda x: ops.cumsum(x, 1), 8),
        "highest": (lambda x: ops.one_hot(ops.argmax(x, -1), 4), 0),
    },
    "places": {
        "flip": (lambda x: ops.flip(x, -1), 8),
        "flip_of_positions": (lambda x: ops.flip(x, 1), 8),
        "roll": (lambda x: ops.roll(x, 3, -1), 8),
        "roll_back": (lambda x: ops.roll(x, (-3, 1), (2, 1)), 8),
        "tile": (lambda x: ops.tile(x, (1, 2, 2)), 8),
        "repeat": (lambda x: ops.repeat(x, 2, -1), 8),
        "take": (lambda x: ops.take(x, np.array([7, 1, 1, 3, -2]), -1), 8),
        "take_a_position": (lambda x: ops.take(x, 2, 1), 8),
        "take_a_channel": (lambda x: x * ops.expand_dims(ops.take(x, -3, -1), -1), 7),
        "padded": (lambda x: ops.pad(x, ((0, 0), (1, 1), (2, 3))), 8),
    },
    "indices": {
        "new_axis": (lambda x: x[:, None][:, 0], 8),
        "axis_in_between": (lambda x: ops.squeeze(x[..., None, :], 2), 8),
        "every_other": (lambda x: x[..., 1::2], 4),
        "reversed": (lambda x: x[..., ::-1], 8),
        "one": (lambda x: x * x[:, :, 3][..., None], 7),
        "positions_in_steps": (lambda x: x[:, ::2], 8),
        "last": (lambda x: x[:, -1], 8),
        "halves": (lambda x: ops.multiply(*ops.split(x, 2, -1)), 4),
        "gated": (ops.glu, 4),
        "stacked": (lambda x: ops.stack([x, 2 * x], 1)[:, 1], 8),
        "interleaved": (lambda x: ops.reshape(ops.stack([x, 2 * x], -1), (-1, 6, 16)), 8),
        "parts": (lambda x: ops.add(*ops.unstack(ops.reshape(x, (-1, 6, 2, 4)), axis=2)), 4),
    },
}
PAIRS = {
    "quotient": lambda x, y: x / ops.sqrt(y * y + 1e-2),
    "quotient_of_exponentials": lambda x, y: x / (1.0 + ops.exp(y)),
    "chosen": lambda x, y: ops.where(x > y, x, y),
    "angle": lambda x, y: ops.arctan2(x, y + 1.0),
    "power": ops.power,
    "rows": lambda x, y: ops.concatenate([x, y], 1),
}


def _mean_of_norms(x):
    return ops.mean(ops.norm(x, axis=(1,), keepdims=True), -1, keepdims=True)


def branches(family):
    """Each operation behind a layer of its name, and in front of one that reads it."""
    inputs = keras.Input((6, 5))
    outputs = []
    for name, (function, _) in family.items():
        x = layers.Dense(8, activation="relu", name=f"before_{name}")(inputs)
        x = layers.Dense(3)(function(x))
        outputs.append(x if len(x.shape) == 2 else ops.mean(x, tuple(range(1, len(x.shape) - 1))))
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_of_one_layer(family):
    state = helpers.removed_at_random(branches(FAMILIES[family]))
    assert free_before(state.graph, FAMILIES[family]) == {
        name: number for name, (_, number) in FAMILIES[family].items()
    }


def free_before(graph, names):
    return {name: int((~graph.group(f"before_{name}").pinned).sum()) for name in names}


def two_layers(pairs):
    inputs = keras.Input((6, 5))
    outputs = []
    for name, function in pairs.items():
        x = layers.Dense(8, activation="relu", name=f"before_{name}")(inputs)
        x = layers.Dense(3)(function(x, layers.Dense(8, activation="relu")(inputs)))
        outputs.append(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs)


def test_operations_of_two_layers():
    state = helpers.removed_at_random(two_layers(PAIRS))
    assert free_before(state.graph, PAIRS) == dict.fromkeys(PAIRS, 8)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="Keras hands JAX a list there")
def test_each_channel_is_repeated_as_often_as_before():
    state = helpers.removed_at_random(branches({"repeat": (lambda x: ops.repeat(x, TIMES, -1), 8)}))
    assert free_before(state.graph, ["repeat"]) == {"repeat": 8}


def test_nothing_is_divided_by_zero():
    graph = resrep_keras.trace(two_layers({"quotient": ops.divide}))
    assert free_before(graph, ["quotient"]) == {"quotient": 0}
    assert "zero once they are removed" in str(graph.groups[0].reason)


@pytest.mark.parametrize("name", CASES)
def test_random_channels_are_removed_exactly(name):
    build, sizes = CASES[name]
    state = helpers.removed_at_random(build())
    free = [int((~group.pinned).sum()) for group in state.graph.groups]
    assert tuple(size for size in free if size) == sizes


def test_units_of_one_later_channel_go_together():
    graph = resrep_keras.trace(generator())
    units = graph.groups[0].producers[0].channels.reshape(4, 4, 6)
    np.testing.assert_array_equal(units, np.broadcast_to(units[:1, :1], units.shape))
