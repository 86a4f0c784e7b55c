"""Inputs of strings, and operations made with tensors, go the whole way."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.surgery.forward import as_numbers
from tests import helpers

register = keras.saving.register_keras_serializable("test_d5_inputs")


def with_words():
    word, numbers = keras.Input((), dtype="string", name="word"), keras.Input((6,), name="x")
    one_hot = layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")(word)
    x = layers.Concatenate()([one_hot, layers.Dense(8)(numbers)])
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model([word, numbers], layers.Dense(2)(layers.Dense(16, activation="relu")(x)))


def with_texts():
    text = keras.Input((), dtype="string", name="text")
    tokens = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4)(text)
    x = layers.GlobalAveragePooling1D()(layers.Embedding(5, 8)(tokens))
    return keras.Model(text, layers.Dense(2)(layers.Dense(16, activation="relu")(x)))


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("make", [with_words, with_texts])
def test_a_model_of_strings_is_finalized_exported_and_reported(make, tmp_path):
    dense = make()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.2))
    assert helpers.difference(dense, wrapped) < 1e-6
    wrapped.compile("sgd", "mse")
    generator = np.random.default_rng(0)
    words = ops.convert_to_tensor(generator.choice(["a", "b", "z"], 32), dtype="string")
    numbers = ops.convert_to_tensor(generator.normal(size=(32, 6)), dtype="float32")
    x = [words, numbers] if len(dense.inputs) == 2 else words
    wrapped.fit(x, np.zeros((32, 2)), batch_size=4, epochs=10, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True, data=x)
    assert slim.certificate.data_max_relative < 1e-4
    for path in ("slim.keras", "slim"):
        assert resrep_keras.export(slim, tmp_path / path) <= 1e-5
    assert resrep_keras.count_macs(slim) < resrep_keras.count_macs(dense)


@pytest.mark.tensorflow_only
def test_strings_as_outputs_are_compared():
    inputs = keras.Input((4,))
    x = layers.Dense(3)(layers.Dense(16, activation="relu")(inputs))
    lookup = layers.StringLookup(vocabulary=["a", "b"], invert=True)
    model = keras.Model(inputs, lookup(ops.argmax(x, -1)))
    slim = resrep_keras.MagnitudePruning(0.3).prune(model)
    assert as_numbers(slim(np.ones((2, 4)))).shape == (2,)


def test_texts_become_numbers_equal_where_they_are_equal():
    numbers = as_numbers(np.array([["a", "b"], ["b", "a"]]))
    assert numbers[0, 0] == numbers[1, 1] != numbers[0, 1] == numbers[1, 0]
    bytes_of = as_numbers(np.array([b"a", b"b"], object))
    np.testing.assert_array_equal(bytes_of, numbers[0])


@register
class Head(layers.Layer):
    """A segmentation head that is made of layers and reshapes to sizes that are tensors."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(8, 3, padding="same", activation="relu")
        self.out = layers.Conv2D(4, 1)

    def call(self, x):
        return ops.reshape(self.out(self.conv(x)), (-1, ops.convert_to_tensor(16), 4))


def reshaped_by_a_layer():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, layers.Softmax()(Head()(x)))


def reshaped():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(4, 1)(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    return keras.Model(inputs, ops.reshape(x, (-1, ops.convert_to_tensor(16), 4)))


@pytest.mark.parametrize("make", [reshaped, reshaped_by_a_layer])
def test_an_operation_made_with_tensors_goes_the_whole_way(make):
    dense = make()
    raw = resrep_keras.trace(dense).recording.calls
    reshape = next(r.operation for r in raw if not isinstance(r.operation, layers.Layer))
    with pytest.raises(NotImplementedError):
        reshape.get_config()
    assert "conv2d" in str(resrep_keras.explain(dense))
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    assert helpers.difference(dense, wrapped) < 1e-6
    wrapped.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(16, 4, 4, 3)).astype("float32")
    wrapped.fit(x, np.zeros((16, 16, 4)), batch_size=2, epochs=10, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert resrep_keras.count_macs(slim) <= 0.7 * resrep_keras.count_macs(dense)
