"""Batches: how much of a data set is read, and what none is."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.surgery import batches as module
from resrep_keras.surgery.batches import batches_of, is_arrays, read
from resrep_keras.surgery.examples import Examples

X = np.arange(80, dtype="float32").reshape(20, 4)
Y = np.arange(20)


def net(count=1):
    inputs = [keras.Input((4,), name=f"in_{number}") for number in range(count)]
    joined = layers.Add()(inputs) if count > 1 else inputs[0]
    return keras.Model(inputs if count > 1 else joined, layers.Dense(3)(joined), name="small")


class Data(keras.utils.PyDataset):
    """Two batches."""

    def __init__(self, make=lambda x, y: (x, y), **kwargs):
        super().__init__(**kwargs)
        self.make = make

    def __len__(self):
        return 2

    def __getitem__(self, index):
        part = slice(12 * index, 12 * index + 12)
        return self.make(X[part], Y[part])


def dataset(make=lambda x, y: (x, y)):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(make(X, Y)).batch(12)


def generator(make=lambda x, y: (x, y)):
    return (make(X[begin : begin + 12], Y[begin : begin + 12]) for begin in (0, 12))


SETS = {"PyDataset": Data, "tf.data": dataset, "generator": generator}


@pytest.mark.parametrize("kind", SETS)
def test_a_data_set_is_read_as_its_arrays(kind):
    data = SETS[kind]()
    assert not is_arrays(data)
    x, y = read(net(), data)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize(
    ("make", "labelled"),
    [
        (lambda x, y: x, False),
        (lambda x, y: (x,), False),
        (lambda x, y: (x, y, 0 * y), True),  # weights do not count
    ],
)
def test_what_a_batch_may_be(kind, make, labelled):
    examples = Examples(net(), SETS[kind](make))
    examples.check()
    assert len(examples) == 20 and (examples.y is not None) == labelled


@pytest.mark.parametrize("kind", SETS)
def test_several_inputs_come_in_their_structure_or_by_their_names(kind):
    for pack in (lambda x: (x, 2 * x), lambda x: {"in_1": 2 * x, "in_0": x}):
        x, y = read(net(2), SETS[kind](lambda x, y, pack=pack: (pack(x), y)))
        np.testing.assert_array_equal(x[0], X)
        np.testing.assert_array_equal(x[1], 2 * X)
        np.testing.assert_array_equal(y, Y)


def test_no_more_is_read_than_is_needed(monkeypatch):
    asked = []

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield X, Y

    x, y = read(net(), endless(), most=50)
    assert asked == [0, 1, 2] and len(x) == len(y) == 50
    assert len(read(net(), endless())[0]) == module.MOST_READ
    asked.clear()
    monkeypatch.setattr(module, "MOST_BYTES", 2 * X.nbytes)
    assert len(read(net(), endless())[0]) == 40 and asked == [0, 1]


BAD = [
    ("cats", TypeError, "Expected data to be arrays or a data set; got 'cats'"),
    (3, TypeError, "Expected data to be arrays or a data set; got 3"),
    (iter(()), ValueError, "Expected data with at least one example; got none"),
    (iter([(X[:0], Y[:0])]), ValueError, "at least one example"),
    (iter([(X[:, :3], Y)]), ValueError, r"of the shapes \(None, 4\).*got an array of shape"),
    (iter([("ab", "cd")]), TypeError, "to be arrays of the shapes"),
    (iter([(X, Y), X]), ValueError, "to be alike but for their number of examples"),
    (iter([(X, Y), (X, Y[:, None])]), ValueError, "to be alike .* Pad or cut them to one size"),
]


@pytest.mark.parametrize(("data", "kind", "text"), BAD, ids=range(len(BAD)))
def test_what_is_no_data_set_is_told(data, kind, text):
    with pytest.raises(kind, match=text):
        Examples(net(), data)


def test_an_error_inside_of_a_data_set_is_its_own():
    def fails():
        yield X, Y
        raise KeyError("a file")

    with pytest.raises(KeyError, match="a file"):
        read(net(), fails())


def test_arrays_in_a_structure_are_no_data_set():
    for data in (X, (X, Y), [X, X], {"a": X}, (X, None)):
        assert is_arrays(data)
    assert next(batches_of([X], "data")) is X
