"""Data of a task, as they may be given."""

import keras
import pytest
from keras import ops

import resrep_keras
from resrep_keras.methods.consolidation.data import TaskData
from tests.methods.consolidation import nets

X, Y = nets.data(rows=10)


def model():
    return resrep_keras.wrap(nets.dense_model(2), resrep_keras.FineTuning())


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        found = tuple(array[4 * index : 4 * index + 4] for array in self.arrays)
        return found if len(found) > 1 else found[0]


class Iterable:
    """Such as a DataLoader."""

    def __iter__(self):
        return iter([(X[:4], Y[:4]), (X[4:8], Y[4:8]), (X[8:], Y[8:])])


def read(data, size, most=None):
    found = [
        (len(x), None if y is None else ops.convert_to_numpy(y).tolist())
        for x, y in data.batches(size, most)
    ]
    return found


def test_arrays_come_in_batches():
    data = TaskData(model(), X, Y)
    assert data.has_labels
    labels = Y.tolist()
    assert read(data, 4) == [(4, labels[:4]), (4, labels[4:8]), (2, labels[8:])]
    assert read(data, 4, most=5) == [(4, labels[:4]), (1, labels[4:5])]
    assert read(data, 100) == [(10, labels)]
    assert not TaskData(model(), X).has_labels


@pytest.mark.parametrize("kind", ["PyDataset", "iterable", "tf.data"])
def test_datasets_come_in_their_batches_again_and_again(kind):
    dataset = Batches(X, Y)
    if kind == "iterable":
        dataset = Iterable()
    if kind == "tf.data":
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    data, labels = TaskData(model(), dataset), Y.tolist()
    assert data.has_labels
    for _ in range(2):
        assert [rows for rows, _ in read(data, 100)] == [4, 4, 2]
        assert read(data, 3, most=5) == [(3, labels[:3]), (1, labels[3:4]), (1, labels[4:5])]
    assert [rows for rows, _ in read(TaskData(model(), dataset, steps=2), 100)] == [4, 4]


def test_several_inputs_in_their_structure():
    inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((3,), name="b")}
    x = keras.layers.Dense(3)(keras.layers.Concatenate()(list(inputs.values())))
    dense = keras.Model(inputs, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
    wrapped = resrep_keras.wrap(dense, resrep_keras.MAS(samples=3))
    wrapped.compile("sgd", nets.loss())
    arrays = {"a": X[:, :2], "b": X[:, 2:]}
    wrapped.fit(arrays, Y % 2, verbose=0)
    resrep_keras.end_task(wrapped, arrays)
    assert wrapped.optimizer.largest_importance() > 0


def test_other_things_are_told_in_words():
    with pytest.raises(TypeError, match=r"x to be arrays, or a dataset .* more than once; got"):
        TaskData(model(), (batch for batch in [(X, Y)]))
    for x in (3, None, "text", {"a": [1]}):
        with pytest.raises(TypeError, match=r"Expected x to be arrays"):
            TaskData(model(), x)
    with pytest.raises(TypeError, match=r"Expected y to be an array"):
        TaskData(model(), X, "labels")
    with pytest.raises(ValueError, match=r"one label for each of the 10 examples of x; got 9"):
        TaskData(model(), X, Y[:9])
    with pytest.raises(ValueError, match=r"arrays of the shapes .*got an array of shape"):
        TaskData(model(), X[:, :3], Y)
    with pytest.raises(ValueError, match=r"Expected x to be arrays.*got none"):
        TaskData(model(), X[:0], Y[:0])
    with pytest.raises(ValueError, match=r"Expected x to be arrays.*got none"):
        TaskData(model(), [])
