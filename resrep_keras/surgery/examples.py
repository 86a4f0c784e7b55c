"""Examples of what a model is made for, read in batches."""

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import came
from resrep_keras.graph.unroll import inputs_of
from resrep_keras.keras_adapter import is_array
from resrep_keras.surgery.batches import is_arrays, read
from resrep_keras.surgery.forward import check_data

FEWEST = 16  # examples of which anything can be learned
LARGEST = 2**24  # numbers of the widest value of a batch
MOST = 128  # examples of a batch


class Examples:
    """Inputs of a model, with labels or without.

    Args:
        model: The model.
        data: Inputs, or a pair `(inputs, labels)`, arrays with the examples along their first axis.
            Of a model of several inputs, `(a, b)` are inputs, and `((a, b), labels)` a pair. Or a
            data set, of which the first examples are read, see `batches.read`.

    Attributes:
        x: The inputs as tensors, in the structure in which the model is called.
        y: The labels as given, or `None`.

    Raises:
        TypeError: Something else than arrays or a data set of them.
        ValueError: Arrays of another structure, or of other shapes.
    """

    def __init__(self, model, data):
        x, self.y = _pair(model, data) if is_arrays(data) else read(model, data)
        self.x = check_data(model, x)

    def __len__(self):
        return len(next(x for x in keras.tree.flatten(self.x) if x is not None))

    def check(self):
        """Raise unless something can be learned from them.

        Raises:
            TypeError: Labels that are no arrays.
            ValueError: Different lengths, fewer than `FEWEST`, or values that are not finite.
        """
        self._check(self.x, "inputs")
        if self.y is not None:
            self._check(self.y, "labels")
        if len(self) < FEWEST:
            raise ValueError(
                f"Expected data to hold {FEWEST} examples or more, on which channels are scored or "
                f"layers fitted anew (a thousand are better); got {len(self)}. Give more. Where no "
                "channels are scored on them, repair=False compares outputs and no more."
            )

    def batches(self, size, most=None):
        """Yields pairs of inputs and labels, `size` examples each; `None` for no labels."""
        number = len(self) if most is None else min(most, len(self))
        for begin in range(0, number, size):
            end = min(begin + size, number)
            yield _part(self.x, begin, end), _part(self.y, begin, end)

    def _check(self, values, name):
        for value in keras.tree.flatten(values):
            if value is None:
                continue
            if not is_array(value):
                raise TypeError(f"Expected the {name} in data to be arrays; {came(value)}.")
            if not value.shape or value.shape[0] != len(self):
                raise ValueError(
                    f"Expected the {name} in data to be of {len(self)} examples, as the first "
                    f"inputs are; got an array of shape {tuple(value.shape)}."
                )
            numbers = np.asarray(ops.convert_to_numpy(value))
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                raise ValueError(
                    f"Expected the {name} in data to be finite; got NaN or infinity in an array of "
                    f"shape {numbers.shape}."
                )


def batch_size(recording):
    """How many examples are played at once: so many that no value of a model gets too large."""
    widest = max(
        np.prod([size or 1 for size in tensor.shape[1:]], dtype=np.int64)
        for call in recording.calls
        for tensor in keras.tree.flatten(call.outputs)
    )
    return int(min(MOST, max(1, LARGEST // int(widest))))


def _pair(model, data):
    """Inputs and labels; a pair has as many inputs in its first half as the model takes."""
    number = len(keras.tree.flatten(inputs_of(model)))
    if isinstance(data, tuple) and len(data) == 2 and len(keras.tree.flatten(data[0])) == number:
        return data
    return data, None


def _part(value, begin, end):
    return keras.tree.map_structure(lambda each: None if each is None else each[begin:end], value)
