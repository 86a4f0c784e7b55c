"""Arrays that meet channels, as kernels or factors, lose what the channels lose."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.pins import PinKind
from tests import helpers, zoo

# name: (builds the model, channels that may go in each group that has any)
CASES, case = helpers.cases()
TABLE = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")


def blur(channels, each=1):
    kernel = np.outer([1, 2, 1], [1, 2, 1]).astype("float32") / 16
    return np.tile(kernel[:, :, None, None], (1, 1, channels, each))


@case(6, 5)
def anti_aliased_pooling():
    x = inputs = zoo.image()
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = ops.depthwise_conv(x, blur(6), strides=2, padding="same")
    return keras.Model(inputs, zoo.head(layers.Conv2D(5, 3, activation="relu")(x)))


@case(6, 5)
def filters_that_make_several():
    """Constants pass, each by its own factor, where nothing is padded."""
    x = inputs = zoo.image()
    x = layers.Conv2D(6, 3, padding="same", activation="sigmoid")(x)
    x = layers.Conv2D(5, 1, activation="relu")(ops.depthwise_conv(x, blur(6, 2)))
    return keras.Model(inputs, zoo.head(ops.conv(x, TABLE[None, None, :5], padding="same")))


@case(7, 7, 7, 7, 7, 7)
def projections_by_arrays():
    inputs = keras.Input((6, 5))
    x, y, z, u, v, w = (layers.Dense(7, activation="tanh")(inputs) for _ in range(6))
    made = [
        ops.einsum("...c,cd->...d", x, TABLE),
        ops.einsum("cd,btc->btd", TABLE, ops.einsum("btc,c->btc", y, TABLE[:, 0])),
        ops.tensordot(z, TABLE, 1),
        ops.dot(u, TABLE),
        ops.matmul(TABLE.T, ops.transpose(v, (0, 2, 1))),
        ops.matmul(w, TABLE[:, 0]),
    ]
    return keras.Model(inputs, [layers.Dense(3)(layers.Flatten()(each)) for each in made])


@case(7, 7, 7, 7)
def distances_to_prototypes():
    """What a channel that is zero adds to each distance is a number."""
    inputs = keras.Input((5,))
    x, y, z, u = (layers.Dense(7, activation="relu")(inputs)[:, None] for _ in range(4))
    made = [
        ops.sum(ops.square(x - TABLE.T), axis=-1),
        ops.exp(-ops.mean(ops.abs(y - TABLE.T[None]), axis=-1)),
        ops.sqrt(ops.sum((z - TABLE.T) ** 2, axis=2, keepdims=True) + 1e-6),
        ops.sum(u + TABLE.T, axis=(1, 2)),
    ]
    return keras.Model(inputs, made)


@case(6, 5)
def responses_with_an_epsilon_in_the_root():
    """Channels that are zero count in the mean as the root of epsilon."""
    x = inputs = zoo.image()
    x = layers.Conv2D(6, 3, activation="relu")(x)
    root = ops.sqrt(ops.sum(x**2, axis=(1, 2), keepdims=True) + 1e-1)
    x = x * root / ops.mean(root, axis=-1, keepdims=True)
    return keras.Model(inputs, zoo.head(layers.Conv2D(5, 1, activation="relu")(x)))


@case(6)
def sums_of_values_that_are_never_zero():
    """Behind a border, a channel holds other constants."""
    x = inputs = zoo.image(6)
    x = layers.Conv2D(6, 3, activation="sigmoid")(x)
    return keras.Model(
        inputs,
        layers.Dense(2)(
            layers.Flatten()(ops.sum(ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), axis=-1))
        ),
    )


@case(7)
def cosines_to_prototypes():
    x = inputs = keras.Input((5,))
    x = ops.normalize(layers.Dense(7)(x), axis=-1)
    return keras.Model(inputs, layers.Dense(3)(ops.matmul(x, TABLE)))


@case(6, 7, 5, 6)
def points_that_are_transformed():
    """A matrix is made of units; those of one column go with the channel that it makes."""

    def block(x, layer):
        return layers.ReLU()(layers.BatchNormalization()(layer(x)))

    inputs = keras.Input((8, 3))
    x = block(inputs, layers.Conv1D(5, 1))
    y = layers.GlobalMaxPooling1D()(block(x, layers.Conv1D(6, 1)))
    y = layers.Reshape((5, 5))(layers.Dense(25)(block(y, layers.Dense(7))))
    x = block(layers.Dot(axes=(2, 1))([x, y]), layers.Conv1D(6, 1))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


@pytest.mark.parametrize("name", CASES)
def test_random_channels_are_removed_exactly(name):
    build, sizes = CASES[name]
    state = helpers.removed_at_random(build())
    free = [int((~group.pinned).sum()) for group in state.graph.groups]
    assert sorted(size for size in free if size) == sorted(sizes)


def windows(border, function):
    """Four windows of each picture, whose channels are never zero."""
    x = inputs = zoo.image(6)
    x = layers.Conv2D(6, 3, activation="sigmoid", name="first")(x)
    if border:
        x = layers.ZeroPadding2D(1)(x)
    half = x.shape[1] // 2
    x = ops.transpose(ops.reshape(x, (-1, 2, half, 2, half, 6)), (0, 1, 3, 2, 4, 5))
    x = function(ops.reshape(x, (-1, half, half, 6)))
    return keras.Model(inputs, layers.Dense(2)(ops.reshape(x, (-1, 4 * half * half))))


def test_sums_in_windows_are_exact_where_all_hold_the_same_constant():
    helpers.removed_at_random(windows(False, lambda x: ops.sum(x, -1)))
    graph = resrep_keras.trace(windows(True, lambda x: ops.sum(x, -1)))
    assert graph.group("first").reason.kind is PinKind.NO_BIAS


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_what_is_added_has_the_dtype_of_the_sum(policy):
    inputs = keras.Input((5,), dtype="float64" if policy == "float64" else None)
    x = layers.Dense(7, activation="sigmoid", dtype=policy, name="first")(inputs)
    dense = keras.Model(inputs, layers.Dense(2, dtype=policy)(ops.sum(x, -1, keepdims=True)))
    slim = resrep_keras.MagnitudePruning(0.3).prune(dense)
    assert slim.get_layer("first").units < 7
    x = np.ones((2, 5), "float32")
    assert slim(x).dtype == dense(x).dtype


def test_an_output_keeps_its_name_behind_what_is_added():
    inputs = keras.Input((5,))
    x = layers.Dense(7, activation="sigmoid", name="first")(inputs)
    dense = keras.Model(inputs, [ops.mean(x, -1, keepdims=True), ops.sum(x, -1)])
    slim = resrep_keras.MagnitudePruning(0.3).prune(dense)
    assert slim.certificate.max_relative <= 1e-4 and slim.get_layer("first").units == 4
    assert slim.output_names == dense.output_names
    again = keras.Model.from_config(slim.get_config())
    assert again.output_names == dense.output_names


# --- what stays ----------------------------------------------------------------------------------


def pinned(function, activation=None):
    inputs = keras.Input((6, 7))
    x = layers.Dense(7, activation=activation, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(function(x))))
    return str(resrep_keras.trace(model).group("first").reason)


def test_no_bias_takes_up_what_an_array_makes_of_constants():
    assert "no bias can hold" in pinned(lambda x: ops.matmul(x, TABLE), "sigmoid")


def test_a_product_of_more_than_two_tensors_is_kept():
    text = "Einsum of more than two different tensors"
    assert text in pinned(lambda x: ops.einsum("btc,btc,btc->bt", x, ops.exp(x), ops.sin(x)))
