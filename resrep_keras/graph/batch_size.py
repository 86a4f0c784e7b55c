"""Graphs of calls that ask how large the batch is: made for one size, then for any.

A symbolic tensor does not know the size of its batch, so that `ops.shape(x)[0]` is `None`, with
which few operations can do. Such a call is read with a batch of a size that nothing else in a model
is a multiple of. Where that size is in a shape, the batch is meant.
"""

import keras
from keras import ops

from resrep_keras.graph.recording import is_symbolic, symbolic_tensors
from resrep_keras.graph.seen_calls import made_with, played_again
from resrep_keras.keras_adapter import input_like, is_array, is_layer, is_variable, operation_class

SIZE = 97


def of_this_size(tensors):
    """Inputs like symbolic tensors, those of an open batch with one of `SIZE`."""
    shapes = [(SIZE, *x.shape[1:]) if x.shape[:1] == (None,) else x.shape for x in tensors]
    return list(map(input_like, tensors, shapes))


def for_any_size(graph, tensors):
    """The graph of inputs `of_this_size`, on inputs like `tensors`.

    Raises:
        ValueError: The size of the batch is used otherwise than in a shape.
    """
    inputs = [input_like(tensor) for tensor in tensors]
    like = next(new for new, old in zip(inputs, tensors) if old.shape[:1] == (None,))

    def call(operation, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(_first_row, (args, kwargs))
        if not is_layer(operation):
            given = keras.tree.flatten((tuple(made_with(operation).values()), args, kwargs))
            if any(_has_size(value) for value in given if not is_symbolic(value)):
                return _rewritten(operation, symbolic_tensors(args, kwargs)[0], like)
        return operation(*args, **kwargs)

    return played_again(graph, inputs, call)


def _first_row(value):
    """Of an array that is the same for each example, such as a causal mask, that of one."""
    if is_symbolic(value) or is_variable(value) or not is_array(value) or not value.shape:
        return value
    if value.shape[0] != SIZE or not ops.convert_to_numpy(ops.all(value == value[:1])):
        return value
    return value[:1]


def _has_size(value):
    if is_array(value):
        return any(map(_has_size, value.shape))
    if isinstance(value, slice):
        return any(map(_has_size, (value.start, value.stop)))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and value != 0 and value % SIZE == 0


def _rewritten(operation, x, like):
    """The output of an operation with the size of the batch in a shape, for a batch of any."""
    shape = operation.output.shape
    if isinstance(operation, operation_class("reshape")):
        sizes = [-1 if _has_size(size) else size for size in shape]
        if sizes.count(-1) == 1:
            return ops.reshape(x, sizes)
    if isinstance(operation, _REPEATING) and x.shape[0] == 1 and shape[0] == SIZE:
        if shape[1:] == tuple(x.shape[1:]):
            column = ops.ones_like(like, dtype=x.dtype)[(slice(None), *[0] * (len(like.shape) - 1))]
            return ops.multiply(x, ops.reshape(column, (-1, *[1] * (len(shape) - 1))))
    raise ValueError(f"{type(operation).__name__} computes with the size of the batch")


_REPEATING = tuple(map(operation_class, ("broadcast_to", "tile", "repeat")))
