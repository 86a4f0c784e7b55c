"""Initializers that are arrays of the dense shape do not stand against narrower copies."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import helpers


def constant(*shape, seed=0):
    return keras.initializers.Constant(np.random.default_rng(seed).normal(size=shape))


def embedding():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 8, embeddings_initializer=constant(20, 8), name="words")(inputs)
    x = layers.Dense(8, activation="relu", name="mid")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def dense():
    inputs = keras.Input((6,))
    x = layers.Dense(
        8, kernel_initializer=constant(6, 8), bias_initializer=constant(8), activation="relu"
    )(inputs)
    x = layers.Dense(8, kernel_initializer=constant(8, 8), activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def recurrent(both=False, cell=False):
    inputs = keras.Input((5, 6))
    settings = {
        "kernel_initializer": constant(6, 24),
        "recurrent_initializer": constant(6, 24, seed=1),
        "bias_initializer": "ones",
        "unit_forget_bias": False,
    }
    layer = layers.LSTM(6, **settings)
    if cell:
        layer = layers.RNN(layers.LSTMCell(6, **settings))
    x = layers.Bidirectional(layer)(inputs) if both else layer(inputs)
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(x))


@keras.saving.register_keras_serializable("a5")
class EightByTwoByFour(keras.initializers.Initializer):
    """Makes values of dense shapes only."""

    def __call__(self, shape, dtype=None):
        if sorted(shape) != [2, 4, 8]:
            raise RuntimeError("another shape than I know")
        return ops.ones(shape, dtype)


def attention():
    inputs = keras.Input((5, 8))
    x = layers.Dense(8, kernel_initializer=constant(8, 8), activation="relu")(inputs)
    x = layers.MultiHeadAttention(2, 4, kernel_initializer=EightByTwoByFour())(x, x)
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def folded():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, kernel_initializer=constant(3, 3, 3, 8), use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(gamma_initializer=constant(8))(x))
    x = layers.SeparableConv2D(
        8, 3, depthwise_initializer=constant(3, 3, 8, 1), pointwise_initializer=constant(1, 1, 8, 8)
    )(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(2)(x))


MODELS = {
    "embedding": embedding,
    "dense": dense,
    "recurrent": recurrent,
    "cell": lambda: recurrent(cell=True),
    "both": lambda: recurrent(both=True),
    "attention": attention,
    "folded": folded,
}


@pytest.mark.parametrize("name", MODELS)
def test_pruned_models_have_the_weights_that_are_left(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.01))
    removed = 0
    for compactor in helpers.compactors(wrapped):
        kept = np.arange(compactor.keep_mask.shape[0]) % 2 == 0
        compactor.keep_mask.assign(kept)
        compactor.kernel.assign(compactor.kernel * kept)
        removed += int((~kept).sum())
    assert removed
    wrapped.method = None
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.count_params() < model.count_params()
    slim.save(tmp_path / "slim.keras")  # whose layers are built anew when it is loaded
    loaded = keras.models.load_model(tmp_path / "slim.keras")
    for before, after in zip(slim.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (before, after)))


def assert_columns(found, matrix, number):
    """Some columns of a matrix, in their order."""
    places = [np.flatnonzero((matrix == column[:, None]).all(axis=0)) for column in found.T]
    assert [len(place) for place in places] == [1] * number
    assert np.all(np.diff(np.ravel(places)) > 0)


def test_redesign_narrows_a_pretrained_embedding():
    keras.utils.set_random_seed(0)
    model = embedding()
    model.get_layer("words").embeddings.assign(np.zeros((20, 8)))  # trained away
    fresh = resrep_keras.redesign(model, {"words": 3, "mid": 4})
    matrix = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    found = ops.convert_to_numpy(fresh.get_layer("words").embeddings)
    assert_columns(found, matrix, 3)
    assert fresh.get_layer("mid").kernel.shape == (3, 4)


def test_redesign_keeps_an_array_where_nothing_is_narrower():
    model = embedding()
    fresh = resrep_keras.redesign(model, {"mid": 4})
    matrix = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    found = ops.convert_to_numpy(fresh.get_layer("words").embeddings)
    np.testing.assert_array_equal(found, matrix)


def test_redesign_narrows_what_a_function_makes():
    matrix = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
    inputs = keras.Input((6,))
    layer = layers.Dense(8, kernel_initializer=lambda *shape, **kwargs: matrix, name="a")
    model = keras.Model(inputs, layers.Dense(2)(layers.ReLU()(layer(inputs))))
    fresh = resrep_keras.redesign(model, {"a": 3})
    found = ops.convert_to_numpy(fresh.get_layer("a").kernel)
    assert_columns(found, matrix, 3)
