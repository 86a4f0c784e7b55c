"""Which function a model applies last, at each of its outputs."""

import dataclasses
from collections.abc import Callable

import keras

from resrep_keras.graph.flow import activation_of
from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.keras_adapter import operation_classes

LINEAR = (None, keras.activations.linear)
SOFTMAX = (keras.layers.Softmax, *operation_classes("softmax", "activations.softmax"))
FUNCTIONS = {
    **dict.fromkeys(SOFTMAX, keras.activations.softmax),
    **dict.fromkeys(operation_classes("sigmoid", "activations.sigmoid"), keras.activations.sigmoid),
}
# What hands its input on: an output's name, or its dtype.
NAMING = (keras.layers.Identity, keras.layers.Activation)


@dataclasses.dataclass(frozen=True)
class LastActivation:
    """What is applied last at an output.

    Args:
        function: Such as `keras.activations.softmax`; `None` where there is none that is known.
        axis: The axis that a softmax runs over.
    """

    function: Callable | None
    axis: int = -1


def last_activations(recording):
    """The `LastActivation` of each output of a recorded model, in their flat order."""
    makers = {id(t): call for call in recording.calls for t in keras.tree.flatten(call.outputs)}
    return [_last(makers, tensor) for tensor in keras.tree.flatten(recording.outputs)]


def _last(makers, tensor):
    call = makers.get(id(tensor))
    while call is not None:
        function = _function_of(call.operation)
        if function not in LINEAR:
            return LastActivation(function, _axis_of(call.operation, len(tensor.shape)))
        if type(call.operation) not in NAMING:
            break
        call = makers.get(id(symbolic_tensors(call.args, call.kwargs)[0]))
    return LastActivation(None)


def _function_of(operation):
    return FUNCTIONS.get(type(operation), activation_of(operation))


def _axis_of(operation, rank):
    """The axis of a softmax, -1 for the last one; of all else, that is the one of its channels."""
    if not isinstance(operation, SOFTMAX) or not isinstance(operation.axis, int):
        return -1
    return -1 if operation.axis % rank == rank - 1 else operation.axis % rank
