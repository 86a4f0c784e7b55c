"""Residual blocks, found in the graph: what lies between a fork and the sum that ends it."""

import functools

import numpy as np

from resrep_keras.graph.flow import rule_of


@functools.singledispatch
def is_sum(operation):
    """Whether an operation adds up tensors, as at the end of a residual block."""
    return False


def inside_blocks(graph):
    """The groups whose channels are made inside of residual blocks, and nowhere else.

    Several paths lead from a fork to a sum; what lies on one and not on all of them is inside. The
    channels that are summed, those of the stream, are not, nor are those before the first block.

    Args:
        graph: A `ChannelGraph`.

    Returns:
        A list of `ChannelGroup`s; `None` for a model without residual blocks.
    """
    inside, streams, found = _between(graph)
    if not found:
        return None
    return [
        group
        for group in graph.groups
        if not streams[group.channels].any()
        and all(producer.layer in inside for producer in group.producers)
    ]


def _adds(operation):
    return rule_of(is_sum, operation)(operation)


def _between(graph):
    """`(names of calls inside, bool by channel id: summed?, whether there are blocks)`."""
    bits, before = {}, {}  # by id of a tensor: its own bit, and those of all that leads to it
    inside, streams, found = 0, np.zeros(graph.num_channels, bool), False
    for call in graph.calls:
        paths = []
        for tensor in call.input_ids:
            if tensor not in bits:  # an input of the model
                bits[tensor] = before[tensor] = 1 << len(bits)
            paths.append(before[tensor])
        every = functools.reduce(int.__or__, paths, 0)
        shared = functools.reduce(int.__and__, paths, every)
        if len(paths) > 1 and shared and shared != every and _adds(call.operation):
            found, inside = True, inside | (every & ~shared)
            for flow in call.inputs:
                ids = np.unique(graph.channel_of[flow.labels])
                streams[ids[ids >= 0]] = True
        own = 1 << len(bits)
        for tensor in call.output_ids:
            bits[tensor], before[tensor] = own, every | own
    names = {
        call.name for call in graph.calls if call.output_ids and bits[call.output_ids[0]] & inside
    }
    return names, streams, found
