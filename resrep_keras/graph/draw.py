"""Random values for symbolic tensors, of every dtype and kind that a Keras input may have."""

import string

from keras import ops


def draw(tensor, generator, batch_size=2, size=64):
    """A random value of a symbolic tensor.

    Numbers are normal, whole numbers and truth values 0 or 1, strings single letters. Of a sparse
    tensor one entry a row is not zero. A ragged tensor's value is an array, which is one whose rows
    are equally long; an optional input has a value.

    Args:
        tensor: The symbolic tensor.
        generator: A NumPy generator.
        batch_size: What an unknown first size becomes.
        size: What other unknown sizes become.
    """
    sizes = [size if n is None else n for n in tensor.shape[1:]]
    shape = (tensor.shape[0] or batch_size, *sizes)
    values = ops.convert_to_tensor(_values(tensor.dtype, generator, shape), dtype=tensor.dtype)
    return _sparse(values, generator) if tensor.sparse else values


def _values(dtype, generator, shape):
    if dtype == "string":
        return generator.choice(list(string.ascii_lowercase), shape)
    if "float" in dtype:
        return generator.normal(size=shape)
    return generator.integers(0, 2, shape)


def _sparse(values, generator):
    """One entry of each row of an array, as the sparse tensor that the backend has for it."""
    *rows, last = values.shape
    here = ops.one_hot(generator.integers(0, last, rows), last, dtype=values.dtype, sparse=True)
    return ops.multiply(here, values)
