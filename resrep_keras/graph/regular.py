"""What is kept must have a regular shape: the channels of a tensor are removed along one axis.

A reshape may spread channels over several axes, and the layer that reads them says which of them
counts. Where none has said so, the longest does.
"""

import numpy as np


def settle_calls(calls, labels):
    """Let the channels of all inputs and outputs of calls lie along one axis each.

    Args:
        calls: The `Call`s, behind their rules.
        labels: `Labels`, in which entries are united.
    """
    done = {}

    def settled(flow):
        if id(flow) not in done:
            done[id(flow)] = flow, settled_flow(flow, labels)  # kept alive: its id is a name
        return done[id(flow)][1]

    for call in calls:
        call.inputs = tuple(map(settled, call.inputs))
        call.outputs = tuple(map(settled, call.outputs))


def settled_flow(flow, labels):
    """The flow with labels along one axis; itself where that is so, or where nothing can go."""
    wide = flow.wide_axes
    if len(wide) < 2:
        return flow
    unique, places = np.unique(flow.labels, return_inverse=True)
    if all(labels.pin_of(label) is not None for label in unique):
        return flow
    roots = np.array([labels.find(label) for label in unique])[places].reshape(flow.labels.shape)
    differing = [axis for axis in wide if (roots != roots.take([0], axis)).any()]
    axis = max(differing or wide, key=lambda axis: (roots.shape[axis], axis))
    settled = flow.only_along(axis)
    if len(differing) > 1:
        labels.union(*np.broadcast_arrays(flow.labels, settled.labels))
    return settled
