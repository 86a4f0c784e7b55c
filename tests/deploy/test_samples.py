"""Examples are found in whatever holds them."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.deploy.samples import (
    chunks,
    first,
    fixed_batch,
    input_batches,
    labelled_batches,
    length_of,
    single_rows,
)

a = np.arange(10.0, dtype="float32")[:, None] * np.ones((1, 3), "float32")
b = -np.arange(10.0, dtype="float32")[:, None]


def one():
    return keras.Sequential([keras.Input((3,)), layers.Dense(1)])


def two():
    left, right = keras.Input((3,), name="z"), keras.Input((1,), name="a")
    return keras.Model([left, right], layers.Concatenate()([left, right]))


def firsts(inputs):
    """The first number of each example."""
    value = keras.tree.flatten(inputs)[0]
    return np.asarray(keras.ops.convert_to_numpy(value))[:, 0].tolist()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, place):
        return a[5 * place : 5 * place + 5], b[5 * place : 5 * place + 5]


@pytest.mark.parametrize(
    "data",
    [
        a,
        [a],
        Batches(),
        ((a[i : i + 4], b[i : i + 4]) for i in (0, 4, 8)),
        iter([a[:3], a[3:]]),
    ],
    ids=["array", "list", "PyDataset", "batches with labels", "batches"],
)
def test_the_first_examples(data):
    assert firsts(first(one(), data, 7, "data")) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.tensorflow_only
def test_of_a_tf_data_set():
    import tensorflow as tf

    for arrays in (a, (a, b)):
        data = tf.data.Dataset.from_tensor_slices(arrays).batch(4).repeat()  # without an end
        assert firsts(first(one(), data, 7, "data")) == [0, 1, 2, 3, 4, 5, 6]
        rows = [firsts(row) for row in single_rows(one(), data, 12, "data")]
        assert rows == [[i % 10] for i in range(12)]
    pairs = tf.data.Dataset.from_tensor_slices(({"a": b, "z": a}, b)).batch(4)
    found = first(two(), pairs, 2, "data")
    assert [tuple(x.shape) for x in found] == [(2, 3), (2, 1)]


def test_several_inputs_in_order_or_by_name():
    for data in ([a, b], (a, b), {"a": b, "z": a}):
        found = first(two(), data, 2, "data")
        assert [tuple(x.shape) for x in found] == [(2, 3), (2, 1)]


def test_examples_of_another_size_end_the_batch():
    model = keras.Sequential([keras.Input((None, 1)), layers.GlobalAveragePooling1D()])
    data = [np.zeros((2, n, 1)) for n in (4, 4, 5)]
    assert first(model, iter(data), 9, "data").shape == (4, 4, 1)
    assert len(list(single_rows(model, iter(data), 9, "data"))) == 6


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match=r"Expected data to be arrays or a data set"):
        first(one(), "text", 2, "data")
    with pytest.raises(TypeError, match=r"Expected data to be arrays or a data set; got 3"):
        first(one(), 3, 2, "data")
    for data in (a[:0], iter([])):
        with pytest.raises(ValueError, match="Expected data with at least one example; got none"):
            first(one(), data, 2, "data")
    with pytest.raises(ValueError, match=r"calibration_data .* got an array of shape \(3,\)"):
        list(single_rows(one(), iter(a), 2, "calibration_data"))  # not in batches


def test_chunks_are_filled_up():
    found = [(firsts(part), new) for part, new in chunks([a], 4)]
    assert found == [([0, 1, 2, 3], 4), ([4, 5, 6, 7], 4), ([8, 9, 0, 1], 2)]
    assert [(firsts(part), new) for part, new in chunks(b[:2], 4)] == [([0, -1, 0, -1], 2)]
    assert [new for _, new in chunks(a, None)] == [length_of(a)] == [10]


def test_a_model_of_one_batch_size():
    model = keras.Sequential([keras.Input(batch_shape=(4, 3)), layers.Dense(1)])
    assert fixed_batch(model) == 4 and fixed_batch(one()) is None
    data = a[:8]
    assert [firsts(row) for row in single_rows(model, iter([data[:4], data[4:]]), 5, "data")] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


def test_labels_and_weights_go_along():
    weight = np.arange(10.0)
    for data in ((a, {"y": b}, weight), iter([(a[:4], {"y": b[:4]}, weight[:4])])):
        inputs, y, found = next(labelled_batches(one(), data))
        assert firsts(inputs)[:4] == [0, 1, 2, 3]
        assert y["y"][:4, 0].tolist() == [0, -1, -2, -3] and found[:4].tolist() == [0, 1, 2, 3]
    assert len(list(input_batches(one(), Batches(), "data"))) == 2
