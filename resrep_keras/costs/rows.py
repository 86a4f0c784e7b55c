"""How many entries of the first axis belong to one example: more than one behind windows, say."""

import functools


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
    given = [of_tensor.get(tensor, 1) for tensor in call.input_ids]
    return None if None in given else max(given, default=1)


def rows_of(graph, made):
    """``{id of a tensor: how many entries of its first axis belong to one example}``.

    Args:
        graph: A `ChannelGraph`.
        made: Maps a call and the number of its inputs to those of its outputs.
    """
    of_tensor = {}
    for call in graph.calls:
        given = rows_read(call, of_tensor)
        outputs = [None] * len(call.outputs) if given is None else made(call, given)
        of_tensor.update(zip(call.output_ids, outputs))
    return of_tensor
