"""Which values are never below zero: a largest one of them is not changed by zeros that go."""

import functools

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.flow import activation_of, register_all, rule_of
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import layer_classes, operation_classes

# How many calls before it a value is followed.
FAR = 8
FUNCTIONS = [
    vars(keras.activations)[name]
    for name in "exponential hard_sigmoid relu relu6 sigmoid softmax softplus".split()
]


@functools.singledispatch
def not_negative(operation, call, far):
    """Whether all that a call makes is zero or more.

    Args:
        operation, call: What is called.
        far: How many calls before it may be looked at.
    """
    return call.activates and call.activation in FUNCTIONS


def reads_not_negative(call, far=FAR):
    """Whether all tensors that a call reads are zero or more, and its arrays, too."""
    return far > 0 and all(
        _made_not_negative(call, position, far) for position in range(len(call.inputs))
    )


def _made_not_negative(call, position, far):
    maker = call.maker(position)
    return maker is not None and rule_of(not_negative, maker.operation)(
        maker.operation, maker, far - 1
    )


@register_all(
    not_negative,
    *operation_classes(
        *"abs square relu relu6 sigmoid exp exp2 softplus hard_sigmoid softmax norm var std".split()
    ),
    *operation_classes("activations.relu6", "activations.softplus"),
)
def _always(operation, call, far):
    return True


@register_all(not_negative, *operation_classes("activations.relu"))
def _relu_operation(operation, call, far):
    """That of `keras.ops` has no slope below zero."""
    return operation.negative_slope == 0


@not_negative.register
def _activation(layer: layers.Activation, call, far):
    return activation_of(layer) in FUNCTIONS


@not_negative.register
def _relu(layer: layers.ReLU, call, far):
    return layer.negative_slope == 0 and layer.threshold == 0


@register_all(
    not_negative,
    *layer_classes(
        *"Add Average Maximum Minimum Multiply Concatenate Dropout Identity".split(),
        *"Flatten Reshape Permute RepeatVector".split(),
        *(f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
        *(f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)),
        *(f"{kind}{n}D" for kind in ("Cropping", "ZeroPadding") for n in (1, 2, 3)),
    ),
    *operation_classes(
        *"reshape transpose swapaxes moveaxis expand_dims squeeze split get_item flip roll tile "
        "repeat mean sum max min amax amin sqrt max_pool average_pool".split()
    ),
)
def _where_all_are(operation, call, far):
    return reads_not_negative(call, far)


@register_all(
    not_negative,
    *operation_classes(*"add multiply maximum minimum divide where concatenate stack pad".split()),
)
def _where_all_and_arrays_are(operation, call, far):
    given = [x for x in keras.tree.flatten((call.args, call.kwargs)) if not is_symbolic(x)]
    known = all(isinstance(x, (int, float, np.ndarray)) for x in given)
    return known and all(np.min(x) >= 0 for x in given) and reads_not_negative(call, far)
