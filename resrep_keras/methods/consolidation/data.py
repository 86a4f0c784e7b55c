"""What a task is learned from, read in batches outside of `fit`."""

import collections.abc
import itertools

import keras
from keras import ops

from resrep_keras.common.checks import came, check_instance
from resrep_keras.keras_adapter import is_array
from resrep_keras.surgery.batches import batches_of
from resrep_keras.surgery.forward import check_data

WORDS = "arrays, or a dataset of batches that can be read more than once"


class TaskData:
    """Inputs and labels of a task.

    Args:
        model: The model that they are for.
        x: Arrays in the structure of its inputs; or a `tf.data.Dataset`, `PyDataset` or other
            iterable of batches.
        y: Labels beside arrays; `None` where `x` brings them, or there are none.
        steps: How many batches of a dataset are read. Defaults to all.

    Raises:
        TypeError: Something else, such as a generator, which can be read only once.
        ValueError: Other shapes than those of the inputs.
    """

    def __init__(self, model, x, y=None, steps=None):
        self.model, self.x, self.y, self.steps = model, x, y, steps
        self.are_arrays = _are_arrays(x)
        if not self.are_arrays:
            check_instance("x", x, (collections.abc.Iterable, keras.utils.PyDataset), WORDS)
            if isinstance(x, (collections.abc.Iterator, str, bytes, dict, set)):
                raise TypeError(f"Expected x to be {WORDS}; {came(x)}.")
        elif y is not None and not _are_arrays(y):
            raise TypeError(f"Expected y to be an array of labels; {came(y)}.")
        elif y is not None and _rows(y) != _rows(x):
            raise ValueError(
                f"Expected y to hold one label for each of the {_rows(x)} examples of x; got "
                f"{_rows(y)}."
            )
        first, labels = next(self._whole(), (None, None))
        if first is None or not _rows(first):
            raise ValueError(f"Expected x to be {WORDS}; got none.")
        check_data(model, _part(first, 0, 1), "x")
        self.has_labels = labels is not None

    def batches(self, size, most=None):
        """Yields pairs of inputs and labels, at most `size` examples at once, `most` in all.

        Batches of a dataset are cut where they are longer, and never joined.
        """
        left = most
        for x, y in self._whole():
            rows = _rows(x) if left is None else min(_rows(x), left)
            for begin in range(0, rows, size):
                end = min(begin + size, rows)
                yield check_data(self.model, _part(x, begin, end), "x"), _part(y, begin, end)
            left = None if left is None else left - rows
            if left == 0:
                return

    def _whole(self):
        """Yields the pairs that are given: one of arrays, or the batches of a dataset."""
        if self.are_arrays:
            yield self.x, self.y
            return
        for batch in itertools.islice(batches_of(self.x, "x"), self.steps):
            yield _pair(batch)


def _pair(batch):
    """Inputs and labels of a batch; weights of examples, behind them, do not count."""
    parts = (*batch, None) if isinstance(batch, (list, tuple)) else (batch, None)
    if not 2 <= len(parts) <= 4 or not _are_arrays(parts[0]):
        raise TypeError(f"Expected x to be {WORDS}, (inputs, labels) each; {came(batch)} in it.")
    return parts[:2]


def _are_arrays(value):
    leaves = keras.tree.flatten(value)
    return bool(leaves) and all(map(is_array, leaves))


def _rows(value):
    return min((each.shape[0] if each.shape else 0) for each in keras.tree.flatten(value))


def _part(value, begin, end):
    if value is None:
        return None
    return keras.tree.map_structure(lambda each: ops.convert_to_tensor(each[begin:end]), value)
