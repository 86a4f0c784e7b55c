"""How many entries of the first axis belong to one example: more than one behind windows, say.

None of a tensor that is the same for all examples do: what only such tensors go into costs nothing.
"""

import functools

import keras

from resrep_keras.graph.recording import replaced

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
    of_tensor = {}
    for call in graph.calls:
        given = rows_read(call, of_tensor)
        outputs = [given] * len(call.outputs)
        if given is not None and call.batched:
            outputs = made(call, given, of_tensor)
        of_tensor.update(zip(call.output_ids, outputs))
    return of_tensor


def rows_seen(call, of_tensor):
    """What shapes tell of a raw operation without a rule, for two sizes of the batch.

    Returns:
        The numbers of its outputs; `None` for one whose examples do not lie along the first axis.
    """
    given = [of_tensor.get(tensor, 1) for tensor in call.input_ids]
    if not any(given):
        return [0] * len(call.outputs)
    key = "rows", *given
    if key not in call.memo:
        one, other = (_output_shapes(call, of_tensor, size) for size in TRIED)
        if None in (one, other):  # made for a batch of 1, say: as many as go in may come out
            most = max(given)
            made = [most if shape[:1] == (most,) else None for shape in call.output_shapes]
        else:
            made = list(map(_grown, one, other))
        call.memo[key] = made
    return call.memo[key]


def _output_shapes(call, of_tensor, size):
    """Shapes of the outputs for a batch of this size; `None` where the operation takes none."""

    def sized(tensor):
        times = of_tensor.get(id(tensor), 1)
        if not (times and tensor.shape):
            return tensor
        return keras.KerasTensor((times * size, *tensor.shape[1:]), dtype=tensor.dtype)

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
    """How often the batch goes into the first axis, where no other axis grows with it."""
    if not one or one[1:] != other[1:] or one[0] % TRIED[0] or other[0] % TRIED[1]:
        return None
    times = one[0] // TRIED[0], other[0] // TRIED[1]
    return times[0] if times[0] == times[1] else None
