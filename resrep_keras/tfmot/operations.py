"""Operations of `keras.ops` as layers of tf_keras, which tfmot knows; others are in `functions`."""

import numbers

import numpy as np

from resrep_keras.graph.flow import register_all
from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.tfmot.activations import in_layers
from resrep_keras.tfmot.counterparts import Followed, counterpart
from resrep_keras.tfmot.functions import of_tensorflow
from resrep_keras.tfmot.packages import keras_2

ADD, SUBTRACT, MULTIPLY = map(operation_class, ("add", "subtract", "multiply"))
DIVISIONS = operation_classes("true_divide", "divide")
MEAN, RESHAPE = operation_class("mean"), operation_class("reshape")


def _layer(kind, name, *args, **settings):
    return getattr(keras_2().layers, kind)(*args, name=name, **settings)


# --- two tensors, or one and a number -------------------------------------------------------------

MERGING = {operation_class(name): name.title() for name in ("maximum", "minimum")}
MERGING |= {ADD: "Add", SUBTRACT: "Subtract", MULTIPLY: "Multiply"}


@register_all(counterpart, *MERGING, *DIVISIONS)
def _(operation, recorded):
    kind, tensors = type(operation), symbolic_tensors(recorded.args, recorded.kwargs)
    floats = all("float" in tensor.dtype for tensor in tensors)
    if len(tensors) == 2:
        first, second = (tensor.shape for tensor in tensors)
        if kind in MERGING and floats and len(first) == len(second) and first[0] == second[0]:
            merge = _layer(MERGING[kind], recorded.name)
            return Followed(None, lambda x1, x2: merge([x1, x2]))
    number = _number(recorded.args)
    if floats and number is not None:
        scaled = _scale_and_offset(kind, number, recorded.args[0] is tensors[0])
        if scaled is not None:
            scale = _layer("Rescaling", recorded.name, *scaled)
            position = recorded.args.index(tensors[0])
            return Followed(None, lambda *args: scale(args[position]))
    return of_tensorflow(operation, recorded)


def _number(args):
    found = [value for value in args if isinstance(value, numbers.Real)]
    return float(found[0]) if len(found) == 1 else None


def _scale_and_offset(kind, number, tensor_first):
    """What Rescaling multiplies by and adds; `None` where it is no such function."""
    if kind is ADD:
        return 1.0, number
    if kind is MULTIPLY:
        return number, 0.0
    if kind is SUBTRACT:
        return (1.0, -number) if tensor_first else (-1.0, number)
    return (1.0 / number, 0.0) if kind in DIVISIONS and tensor_first and number else None


@counterpart.register(operation_class("negative"))
def _(operation, recorded):
    return _layer("Rescaling", recorded.name, -1.0)


# --- activations ----------------------------------------------------------------------------------

ACTIVATIONS = {
    operation_class(name): name
    for name in (
        *("relu", "sigmoid", "tanh", "softplus", "softsign", "selu", "silu"),
        *("relu6", "hard_sigmoid", "hard_silu"),
    )
}
ACTIVATIONS[operation_class("exp")] = "exponential"


@register_all(counterpart, *ACTIVATIONS)
def _(operation, recorded):
    return Followed(None, in_layers(ACTIVATIONS[type(operation)], recorded.name))


@counterpart.register(operation_class("elu"))
def _(operation, recorded):
    return _layer("ELU", recorded.name, operation.alpha)


@counterpart.register(operation_class("leaky_relu"))
def _(operation, recorded):
    return _layer("LeakyReLU", recorded.name, operation.negative_slope)


@register_all(counterpart, *operation_classes("activations.relu"))
def _(operation, recorded):
    names = ("max_value", "negative_slope", "threshold")
    return _layer("ReLU", recorded.name, **{name: vars(operation)[name] for name in names})


@counterpart.register(operation_class("softmax"))
def _(operation, recorded):
    if operation.axis is None:
        return of_tensorflow(operation, recorded)
    return _layer("Softmax", recorded.name, axis=operation.axis)


# --- axes -----------------------------------------------------------------------------------------


@register_all(counterpart, MEAN, operation_class("max"))
def _(operation, recorded):
    rank, kind = len(recorded.args[0].shape), type(operation)
    axes = () if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    spatial = sorted(axis % rank for axis in axes) == list(range(1, rank - 1)) and rank > 2
    if not spatial or vars(operation).get("initial") is not None:
        return of_tensorflow(operation, recorded)
    which = "Average" if kind is MEAN else "Max"
    name = f"Global{which}Pooling{rank - 2}D"
    return _layer(name, recorded.name, keepdims=operation.keepdims, data_format="channels_last")


@counterpart.register(RESHAPE)
def _(operation, recorded):
    first, *others = operation.newshape
    known = recorded.args[0].shape[1:]
    kept = first in (-1, None) and None not in known and all(n and n > 0 for n in others)
    if not kept or np.prod(known) != np.prod(others):
        return of_tensorflow(operation, recorded)
    return _layer("Reshape", recorded.name, tuple(others))


@counterpart.register(operation_class("transpose"))
def _(operation, recorded):
    rank = len(recorded.args[0].shape)
    axes = [axis % rank for axis in operation.axes or range(rank)[::-1]]
    if axes[0] != 0:
        return of_tensorflow(operation, recorded)
    return _layer("Permute", recorded.name, tuple(axes[1:]))


@counterpart.register(operation_class("concatenate"))
def _(operation, recorded):
    if len(symbolic_tensors(recorded.args, {})) < 2 or operation.axis == 0:
        return of_tensorflow(operation, recorded)
    return _layer("Concatenate", recorded.name, axis=operation.axis)


# --- positions ------------------------------------------------------------------------------------


@register_all(counterpart, operation_class("max_pool"), operation_class("average_pool"))
def _(operation, recorded):
    which = "Max" if "Max" in type(operation).__name__ else "Average"
    settings = {name: vars(operation)[name] for name in ("pool_size", "strides", "padding")}
    rank = len(recorded.args[0].shape) - 2
    return _layer(
        f"{which}Pooling{rank}D", recorded.name, data_format=operation.data_format, **settings
    )
