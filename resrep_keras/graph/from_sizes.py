"""What `keras.ops` makes of sizes alone, such as the positions of a sequence, as tensors."""

import contextlib
import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.recording import is_symbolic


def ones_along(tensor, axis, dtype):
    """As many ones as a tensor has entries along an axis."""
    ones = ops.ones_like(tensor, dtype=dtype)
    return ones[tuple(slice(None) if a == axis else 0 for a in range(len(tensor.shape)))]


def times_ones(x, tensor, axis, along, rank):
    """A tensor of a rank repeated along one of its axes, as often as another has entries."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    ones = ones_along(tensor, axis, dtype)
    others = tuple(other for other in range(rank) if other != along)
    ones = ops.expand_dims(ones, others) if others else ones
    return ops.logical_and(x, ones) if dtype == "bool" else ops.multiply(x, ones)


@contextlib.contextmanager
def made_of_sizes(sources):
    """While it lasts, `ops.arange(8)` is made of the tensor whose size is 8, and so on.

    Args:
        sources: ``{size: (symbolic tensor that has it, axis)}``; what has none of these sizes is
            made as ever.
    """
    own = {name: vars(ops)[name] for name in _MAKERS}
    get_item = keras.KerasTensor.__getitem__
    keras.KerasTensor.__getitem__ = _get_item(get_item)
    try:
        with _replaced({n: functools.partial(_MAKERS[n], sources, f) for n, f in own.items()}):
            yield
    finally:
        keras.KerasTensor.__getitem__ = get_item


@contextlib.contextmanager
def made_as_ever():
    """While it lasts, `ops.arange` is that of Keras: where the backend tells shapes, say."""
    with _replaced(_OWN):
        yield


@contextlib.contextmanager
def _replaced(functions):
    before = {name: vars(ops)[name] for name in functions}
    vars(ops).update(functions)
    try:
        yield
    finally:
        vars(ops).update(before)


def _get_item(original):
    """Arrays take `x[None]`, too, of which Keras only takes `x[(None,)]` for a symbolic tensor."""

    @functools.wraps(original)
    def get_item(tensor, key):
        return original(tensor, (key,) if key is None or isinstance(key, slice) else key)

    return get_item


def _positions(sources, size):
    return ops.subtract(ops.cumsum(ones_along(*sources[size], "int32")), 1)


def _arange(sources, original, *args, **kwargs):
    """A range of as many entries as a size: it begins, or ends, at a known number."""
    if any(map(is_symbolic, keras.tree.flatten((args, kwargs)))):
        return original(*args, **kwargs)
    made = original(*args, **kwargs)
    size = made.shape[0]
    if size not in sources:
        return made
    values = ops.convert_to_numpy(made)
    first, step = values[0].item(), (values[1] - values[0]).item()
    positions = _positions(sources, size)
    sizes_back = round(-first / (size * step))  # of a range that ends at a known number
    if sizes_back:
        first += sizes_back * size * step
        positions = ops.subtract(positions, sizes_back * (ops.max(positions) + 1))
    dtype = keras.backend.standardize_dtype(made.dtype)
    return ops.cast(positions, dtype) * step + first


def _filled(sources, original, shape, *args, **kwargs):
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not any(isinstance(size, int) and size in sources for size in sizes):
        return original(shape, *args, **kwargs)
    one = original((1,) * len(sizes), *args, **kwargs)
    known = tuple(1 if size in sources else size for size in sizes)
    made = np.broadcast_to(ops.convert_to_numpy(one), known)
    for axis, size in enumerate(sizes):
        if size in sources:
            made = times_ones(made, *sources[size], axis, len(sizes))
    return made


def _compared(compare, sources, original, rows, columns=None, k=0, dtype=None):
    """A matrix of ones where ``compare(row + k, column)`` holds."""
    both = [rows, rows if columns is None else columns]
    if not any(size in sources for size in both):
        return original(rows, columns, k=k, dtype=dtype)
    row, column = (_positions(sources, n) if n in sources else np.arange(n) for n in both)
    found = compare(ops.expand_dims(row, 1) + k, ops.expand_dims(column, 0))
    return ops.cast(found, dtype or keras.config.floatx())


_MAKERS = {
    "arange": _arange,
    "ones": _filled,
    "zeros": _filled,
    "full": _filled,
    "empty": _filled,
    "tri": functools.partial(_compared, lambda row, column: ops.greater_equal(row, column)),
    "eye": functools.partial(_compared, lambda row, column: ops.equal(row, column)),
}
_OWN = {name: vars(ops)[name] for name in _MAKERS}
