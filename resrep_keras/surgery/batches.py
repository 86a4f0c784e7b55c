"""Batches of examples: data sets, `PyDataset`s, and whatever else yields them."""

import itertools

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import came
from resrep_keras.graph.probe import in_words
from resrep_keras.keras_adapter import is_array
from resrep_keras.surgery.forward import check_data

MOST_READ = 2048  # examples
MOST_BYTES = 2**29  # of their inputs


def is_arrays(data):
    """Whether it is a structure of arrays, and not an iterable of them."""
    leaves = keras.tree.flatten(data)
    return is_array(data) or not (len(leaves) == 1 and leaves[0] is data)


def batches_of(data, name):
    """An iterator over what a data set yields.

    Raises:
        TypeError: It is none.
    """
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in itertools.takewhile(_below(data.num_batches), itertools.count()))
    if isinstance(data, (str, bytes)):
        raise TypeError(f"Expected {name} to be arrays or a data set; {came(data)}.")
    try:
        return iter(data)
    except Exception as error:  # whatever an object of the user's raises
        raise TypeError(
            f"Expected {name} to be arrays or a data set; {came(data)}. To iterate over it raises "
            f"{in_words(error)}."
        ) from error


def _below(number):
    return lambda i: number is None or i < number


def read(model, data, name="data", most=MOST_READ):
    """Inputs and labels of the first examples of a data set, as arrays.

    No more are read than `most`, and none where their inputs take `MOST_BYTES`, so that a data set
    may be larger than memory, or repeat itself for ever.

    Args:
        model: The model that they are for.
        data: A `tf.data.Dataset`, a `keras.utils.PyDataset` or any iterable of batches: inputs,
            `(x, y)` or `(x, y, sample_weight)`, as `fit` takes them. Weights are not read.
        name: That of the argument.
        most: As above.

    Raises:
        TypeError: No data set, or batches of something else than arrays.
        ValueError: Batches that do not fit the model, or each other, or none.
    """
    batches, number, size = [], 0, 0
    for batch in batches_of(data, name):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        x = check_data(model, x, name, any_number=True)
        batches.append(keras.tree.map_structure(_as_array, (x, y)))
        _check_alike(batches, name)
        number += len(next(value for value in keras.tree.flatten(batches[-1]) if value is not None))
        size += sum(value.nbytes for value in keras.tree.flatten(batches[-1]) if value is not None)
        if number >= most or size >= MOST_BYTES:
            break
    if not number:
        raise ValueError(f"Expected {name} with at least one example; got none.")
    return keras.tree.map_structure(lambda *values: _joined(values, most), *batches)


def _as_array(value):
    return None if value is None else np.asarray(ops.convert_to_numpy(value))


def _check_alike(batches, name):
    first, last = (keras.tree.map_structure(_size, batch) for batch in (batches[0], batches[-1]))
    if first != last:
        raise ValueError(
            f"Expected the batches of {name} to be alike but for their number of examples; got "
            f"shapes without the batch of {first}, inputs and labels, and then {last}. Pad or cut "
            "them to one size, or give arrays."
        )


def _size(value):
    return None if value is None else tuple(value.shape[1:])


def _joined(values, most):
    return None if values[0] is None else np.concatenate(values)[:most]
