"""Examples: what is a pair, what is refused, and how it is read in batches."""

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery import examples as module
from resrep_keras.surgery.examples import Examples, batch_size

X, Y = np.ones((20, 4), "float32"), np.zeros(20)


def one_input():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3)(inputs), name="small")


def two_inputs():
    inputs = [keras.Input((4,)), keras.Input((4,))]
    return keras.Model(inputs, layers.Add()(inputs))


@pytest.mark.parametrize(
    ("make", "data", "inputs", "labels"),
    [
        (one_input, X, 1, False),
        (one_input, (X, Y), 1, True),
        (two_inputs, [X, X], 2, False),
        (two_inputs, (X, X), 2, False),
        (two_inputs, ((X, X), Y), 2, True),
        (two_inputs, ([X, X], [Y, Y]), 2, True),
    ],
)
def test_a_pair_has_all_inputs_in_its_first_half(make, data, inputs, labels):
    examples = Examples(make(), data)
    examples.check()
    assert len(keras.tree.flatten(examples.x)) == inputs
    assert (examples.y is not None) == labels
    assert len(examples) == 20


def test_batches_go_through_all_once():
    examples = Examples(one_input(), (X, np.arange(20)))
    found = [(len(x), list(y)) for x, y in examples.batches(8)]
    assert [number for number, _ in found] == [8, 8, 4]
    assert [label for _, labels in found for label in labels] == list(range(20))
    assert [len(x) for x, _ in examples.batches(8, most=10)] == [8, 2]
    assert [y for _, y in Examples(one_input(), X).batches(20)] == [None]


def test_a_batch_is_smaller_where_values_are_large(monkeypatch):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3)(inputs)))
    monkeypatch.setattr(module, "LARGEST", 5 * 6 * 6 * 16)
    assert batch_size(recording_of(model)) == 5
    monkeypatch.setattr(module, "LARGEST", 1)
    assert batch_size(recording_of(model)) == 1


NAN = np.where(np.arange(20) == 3, np.nan, 0.0)
BAD = [
    (X[:15], ValueError, "16 examples or more.*got 15.*repair=False"),
    ((X, Y[:19]), ValueError, r"labels in data to be of 20 examples.*shape \(19,\)"),
    ((X + NAN[:, None], Y), ValueError, r"inputs in data to be finite; got NaN.*\(20, 4\)"),
    ((X, NAN), ValueError, "labels in data to be finite"),
    ((X, "cat"), TypeError, "labels in data to be arrays; got 'cat' of type str"),
    ((X, 3), TypeError, "labels in data to be arrays; got 3"),
    (X[:, :3], ValueError, r"Expected data to be arrays of the shapes \(None, 4\)"),
    ([X, X, X], ValueError, r"Expected data to be arrays of the shapes"),
    ("cats", TypeError, "Expected data to be arrays or a data set; got 'cats'"),
]


@pytest.mark.parametrize(("data", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_data_are_refused_in_words(data, error, text):
    with pytest.raises(error, match=text):
        Examples(one_input(), data).check()
