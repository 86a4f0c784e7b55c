"""Random values of every dtype and kind of input."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.draw import draw


def drawn(batch_size=64, **given):
    tensor = keras.KerasTensor((None, None, 3), **given)
    return draw(tensor, np.random.default_rng(0), batch_size, size=5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numbers_are_normal(dtype):
    values = ops.convert_to_numpy(ops.cast(drawn(dtype=dtype), "float32"))
    assert (
        values.shape == (64, 5, 3) and keras.backend.standardize_dtype(drawn().dtype) == "float32"
    )
    assert abs(values.mean()) < 0.1 and abs(values.std() - 1) < 0.1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
def test_whole_numbers_are_small(dtype):
    values = drawn(dtype=dtype)
    assert keras.backend.standardize_dtype(values.dtype) == dtype
    assert set(np.unique(ops.convert_to_numpy(values)).tolist()) == {0, 1}


@pytest.mark.tensorflow_only
def test_strings_are_letters_that_a_vocabulary_may_hold():
    lookup = layers.StringLookup(vocabulary=["a", "b", "c"])
    found = ops.convert_to_numpy(lookup(drawn(dtype="string")))
    assert found.shape == (64, 5, 3) and set(np.unique(found)) == {0, 1, 2, 3}


def test_of_a_sparse_tensor_one_entry_a_row_is_not_zero():
    tensor = keras.KerasTensor((None, 7), sparse=True)
    value = draw(tensor, np.random.default_rng(0), batch_size=3)
    dense = ops.convert_to_numpy(ops.convert_to_tensor(value, sparse=False))
    assert dense.shape == (3, 7) and ((dense != 0).sum(axis=1) == 1).all()
    assert keras.Sequential([keras.Input((7,), sparse=True), layers.Dense(2)])(value).shape == (
        3,
        2,
    )


@pytest.mark.tensorflow_only
def test_a_ragged_tensor_has_rows_of_one_length():
    inputs = keras.Input((None,), ragged=True, dtype="int32")
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(layers.Embedding(2, 4)(inputs)))
    value = draw(inputs, np.random.default_rng(0), size=5)
    assert value.shape == (2, 5) and model(value).shape == (2, 4)
