"""Which operations of a model read the variables of another one."""

import keras

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
