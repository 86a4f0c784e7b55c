"""How many entries of the first axis belong to one example: more than one behind windows, say.

None of a tensor that is the same for all examples do: what only such tensors go into costs nothing.
"""

import collections
import dataclasses
import functools

import keras

from resrep_keras.graph.recording import replaced
from resrep_keras.keras_adapter import is_layer

TRIED = 5, 7  # batch sizes: an axis that grows from one to the other holds examples


@functools.singledispatch
def rows(operation, call, given):
    """How many entries of the first axis of a call's output belong to one example.

    Args:
        operation, call: What is called.
        given: How many of its input do.

    Returns:
        An int; `None` where the examples lie along another axis, or that is unknown.
    """
    return given


def rows_read(call, of_tensor):
    """How many entries of the first axis of a call's inputs belong to one example, or `None`."""
    if not call.batched:  # all entries are of one example
        return max([x.shape[0] for x in call.tensors[0] if x.shape], default=1)
    given = [of_tensor.get(tensor, 1) for tensor in call.input_ids]
    return None if None in given else max(given, default=1)


def rows_of(graph, made):
    """``{id of a tensor: how many entries of its first axis belong to one example}``.

    Args:
        graph: A `ChannelGraph`.
        made: Maps a call, the number of its inputs, and what is known so far of all tensors, to
            those of its outputs.
    """
    of_tensor, moved = {}, {}
    for call in graph.calls:
        given = rows_read(call, of_tensor)
        outputs = [given] * len(call.outputs)
        if given is not None and call.batched:
            outputs = made(call, given, of_tensor)
        elif call.batched and _is_raw(call.operation):  # which may bring them back
            outputs = rows_seen(call, collections.ChainMap(moved, of_tensor))
        for tensor, number in zip(call.output_ids, outputs):
            lies_elsewhere = isinstance(number, Moved)
            of_tensor[tensor] = None if lies_elsewhere else number
            moved.update({tensor: number} if lies_elsewhere else {})
    return of_tensor


@dataclasses.dataclass(frozen=True)
class Moved:
    """The examples lie along another axis than the first, so many entries of which make one."""

    axis: int
    times: int


def _is_raw(operation):
    return isinstance(operation, keras.Operation) and not is_layer(operation)


def rows_seen(call, of_tensor):
    """What shapes tell of a raw operation without a rule, for two sizes of the batch.

    Returns:
        The numbers of its outputs, `Moved` where examples lie along another axis; `None` of what is
        unknown.
    """
    given = [of_tensor.get(tensor, 1) for tensor in call.input_ids]
    if None in given or not any(given):
        return [None if None in given else 0] * len(call.outputs)
    key = "rows", *given
    if key not in call.memo:
        one, other = (_output_shapes(call, of_tensor, size) for size in TRIED)
        if None in (one, other) and any(isinstance(each, Moved) for each in given):
            made = [None] * len(call.outputs)
        elif None in (one, other):  # made for a batch of 1, say: as many as go in may come out
            most = max(given)
            made = [most if shape[:1] == (most,) else None for shape in call.output_shapes]
        else:
            made = list(map(_grown, one, other))
        call.memo[key] = made
    return call.memo[key]


def _output_shapes(call, of_tensor, size):
    """Shapes of the outputs for a batch of this size; `None` where the operation takes none."""

    def sized(tensor):
        found = of_tensor.get(id(tensor), 1)
        if not (found and tensor.shape):
            return tensor
        found = found if isinstance(found, Moved) else Moved(0, found)
        shape = list(tensor.shape)
        shape[found.axis] = found.times * size
        return keras.KerasTensor(shape, dtype=tensor.dtype)

    inputs = {id(tensor): sized(tensor) for tensor in call.tensors[0]}
    args, kwargs = keras.tree.map_structure(
        functools.partial(replaced, inputs), (call.args, call.kwargs)
    )
    try:
        specs = call.operation.compute_output_spec(*args, **kwargs)
    except Exception:  # in whatever way an operation refuses a size
        return None
    return [tuple(spec.shape) for spec in keras.tree.flatten(specs)]


def _grown(one, other):
    """How often the batch goes into the one axis that grows with it."""
    axes = [axis for axis, pair in enumerate(zip(one, other)) if pair[0] != pair[1]]
    if not one:
        return None
    axis = axes[0] if axes else 0
    if len(axes) > 1 or one[axis] % TRIED[0] or other[axis] % TRIED[1]:
        return None
    times = one[axis] // TRIED[0], other[axis] // TRIED[1]
    if times[0] != times[1]:
        return None
    return Moved(axis, times[0]) if axis else times[0]
