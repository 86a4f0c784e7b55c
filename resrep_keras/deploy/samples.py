"""Examples of what a model reads: taken from arrays, from data sets, or drawn."""

import itertools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.unroll import inputs_of
from resrep_keras.keras_adapter import is_array
from resrep_keras.surgery.batches import batches_of, is_arrays
from resrep_keras.surgery.forward import check_data

AT_ONCE = 32  # examples of a batch of arrays


def input_batches(model, data, name):
    """Yields inputs in the structure in which a model is called, a batch at a time.

    Args:
        model: The model.
        data: Arrays in the structure of the inputs, or by the names of these; or batches: a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or any iterable. Of `(x, y)` in a batch `x`
            is taken, as Keras does.
        name: That of the argument.

    Raises:
        TypeError: Neither arrays nor batches of arrays.
        ValueError: Arrays of another structure or other shapes than those of the inputs, or none.
    """
    empty = True
    for batch in [data] if is_arrays(data) else batches_of(data, name):
        inputs = batch if is_arrays(data) else keras.utils.unpack_x_y_sample_weight(batch)[0]
        inputs = check_data(model, inputs, name, any_number=True)
        empty = empty and not length_of(inputs)
        yield inputs
    if empty:
        raise ValueError(f"Expected {name} with at least one example; got none.")


def labelled_batches(model, data):
    """Yields `(inputs, y, sample weight)` of what `evaluate` takes, a batch at a time.

    Args:
        model: The model.
        data: `(x, y)` or `(x, y, sample_weight)`, or batches of them.
    """
    if isinstance(data, (tuple, list)):
        x, y, weight = (*data, None)[:3]
        inputs = check_data(model, x, "test_data", any_number=True)
        fixed = fixed_batch(model)
        for begin in range(0, length_of(inputs), fixed or AT_ONCE):
            yield tuple(part(v, begin, begin + (fixed or AT_ONCE)) for v in (inputs, y, weight))
        return
    for batch in batches_of(data, "test_data"):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        yield check_data(model, x, "test_data", any_number=True), y, weight


def first(model, data, number, name):
    """Up to so many examples, as inputs in the structure in which a model is called."""
    taken, found = [], 0
    for inputs in input_batches(model, data, name):
        taken.append(inputs)
        found += length_of(inputs)
        same = _sizes(taken[0]) == _sizes(inputs)
        if not same or found >= number:
            found = found if same else found - length_of(inputs)
            taken = taken if same else taken[:-1]
            break
    if len(taken) == 1:
        return part(taken[0], 0, min(number, found))
    joined = keras.tree.map_structure(
        lambda *values: None if values[0] is None else _joined(values), *taken
    )
    return part(joined, 0, min(number, found))


def chunks(inputs, size):
    """Yields pairs of inputs of `size` examples and how many of these are new.

    The last ones are filled up with the first again. `None` for all at once.
    """
    length = length_of(inputs)
    if size is None or length is None:
        yield inputs, length
        return
    for begin in range(0, length, size):
        end = begin + size
        if end <= length:
            yield part(inputs, begin, end), size
        else:
            yield _filled(inputs, np.arange(begin, end) % length), length - begin


def _filled(inputs, places):
    return keras.tree.map_structure(
        lambda each: None if each is None else np.asarray(each)[places], inputs
    )


def single_rows(model, data, most, name):
    """Yields up to `most` examples one by one, or in the batches that the model is made for."""
    size = fixed_batch(model) or 1
    rows = itertools.chain.from_iterable(
        chunks(inputs, size) for inputs in input_batches(model, data, name)
    )
    yield from (row for row, _ in itertools.islice(rows, -(-most // size)))


def fixed_batch(model):
    """The batch size that a model is made for; `None` for any."""
    sizes = {tensor.shape[0] for tensor in keras.tree.flatten(inputs_of(model))}
    return next(iter(sizes - {None}), None)


def part(value, begin, end):
    """Some rows of each array in a structure."""
    return keras.tree.map_structure(lambda each: _rows(each, begin, end), value)


def _rows(value, begin, end):
    if value is None or (begin == 0 and end == value.shape[0]):
        return value  # all of it: sparse tensors have no slices
    return value[begin:end]


def length_of(inputs):
    """The number of examples; `None` where no input has one."""
    arrays = [value for value in keras.tree.flatten(inputs) if is_array(value) and value.shape]
    return arrays[0].shape[0] if arrays else None


def _sizes(inputs):
    return [None if x is None else tuple(x.shape[1:]) for x in keras.tree.flatten(inputs)]


def _joined(values):
    return np.concatenate([np.asarray(ops.convert_to_numpy(value)) for value in values])
