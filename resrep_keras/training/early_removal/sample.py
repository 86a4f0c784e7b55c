"""Some inputs of the data that `fit` runs on."""

import collections.abc

import keras
from keras import ops

from resrep_keras.keras_adapter import is_array


def sample_inputs(data, size=64):
    """The inputs of one batch of what `fit` was given; `None` where reading would use it up.

    Args:
        data: The argument `x` of `fit`.
        size: How many rows are taken of arrays.
    """
    if data is None or isinstance(data, collections.abc.Iterator):
        return None
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif all(map(is_array, keras.tree.flatten(data))):
        return keras.tree.map_structure(lambda array: ops.convert_to_tensor(array[:size]), data)
    else:
        batch = next(iter(data), None)
    return None if batch is None else keras.utils.unpack_x_y_sample_weight(batch)[0]
