"""Which operations of a model read the variables of another one."""

import keras

from resrep_keras.graph.flow import rule_of, takes_several_axes
from resrep_keras.keras_adapter import is_variable, weights_of_operation


def sharing(calls):
    """`{id of an operation: name of another one}` of those that have variables in common.

    A layer may hold another one that the model calls, too, and read its kernel; an operation of
    `keras.ops` may be called on a variable.

    Args:
        calls: `RecordedCall`s or `Call`s, those in front of which an inner recording stands left
            out.
    """
    readers = {}
    for call in calls:
        for variable in variables_read(call):
            readers.setdefault(id(variable), {})[id(call.operation)] = call.name
    found = {}
    for names in readers.values():
        if len(names) > 1:
            for key, name in names.items():
                found.setdefault(key, next(other for other in names.values() if other != name))
    return found


def variables_read(call):
    """The weights of what is called, and the variables that it is called on."""
    given = keras.tree.flatten((call.args, call.kwargs))
    return [*weights_of_operation(call.operation), *filter(is_variable, given)]


def read_alike(call, other):
    """Whether trying two calls of one layer has shown the same of its weights."""
    mine, theirs = (each.found and each.found.what_weights_read for each in (call, other))
    return mine == theirs


def pairs_of_parts(call, other):
    """Pairs of parts of the flows of two calls of one layer, which must have the same channels.

    What passes beside the axes that weights read or make may differ: in number, too. The second is
    `None` where one call has channels along an axis, and what the other reads there has none.
    """
    pairs = zip(call.inputs + call.outputs, other.inputs + other.outputs)
    crosses = rule_of(takes_several_axes, call.operation)(call.operation)
    apart = crosses and all(len(p.wide_axes) < 2 for flow in call.inputs for p in flow.parts)
    return [found for pair in pairs for found in (_by_axis(*pair) if apart else (pair,))]


def _by_axis(flow, other):
    mine, theirs = map(_along_each_axis, (flow, other))
    found = []
    for axis in {**mine, **theirs} or {-1: None}:
        sizes = [each.shape[axis] for each in (flow, other) if len(each.shape) >= -axis]
        if len(sizes) < 2 or sizes[0] != sizes[1]:  # no axis of weights
            continue
        pair = [
            parts.get(axis, None if parts else each)
            for parts, each in ((mine, flow), (theirs, other))
        ]
        found.append(tuple(sorted(pair, key=lambda part: part is None)))
    return found


def _along_each_axis(flow):
    """``{axis, counted from the last: part of a flow whose channels lie along it}``."""
    return {axis - len(flow.shape): part for part in flow.parts for axis in part.wide_axes}
