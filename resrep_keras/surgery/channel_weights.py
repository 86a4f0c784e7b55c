"""The weights that make or read each channel of a layer: one rule per layer of its own kind."""

import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of


@functools.singledispatch
def producing_variable(layer, inside=None):
    """The variable that makes each channel of a layer, and its channel axis.

    Args:
        layer: A layer that makes channels. Without a rule of its own, it is `layer.kernel`.
        inside: Name of the layer's own inner channels, `None` for its outputs.

    Returns:
        The pair, or `None` where it is not known, or not one variable.
    """
    kernel = _kernel_of(layer, inside)
    return (kernel, len(kernel.shape) - 1) if isinstance(kernel, keras.Variable) else None


def _kernel_of(layer, inside):
    """What a layer of one's own calls `kernel`: a variable, or a tensor made of several."""
    return getattr(layer, "kernel", None) if inside is None else None


@functools.singledispatch
def producing_weights(layer, inside=None):
    """The weights that make each channel of a layer: an array whose last axis is the channels.

    Args:
        layer: A layer that makes channels. Without a rule of its own, its `producing_variable` is
            read, or `layer.kernel`.
        inside: Name of the layer's own inner channels, `None` for its outputs.

    Returns:
        The array, or `None` where it is not known.
    """
    found = rule_of(producing_variable, layer)(layer, inside)
    if found is not None:
        return np.moveaxis(ops.convert_to_numpy(found[0]), found[1], -1)
    kernel = _kernel_of(layer, inside)
    return None if kernel is None else ops.convert_to_numpy(kernel)


def weights_that_make(call, inside=None):
    """The `producing_weights` of the layer of a call, as its rule or trying the layer tells."""
    if call.found is not None:
        return call.found.making(call.operation)
    return rule_of(producing_weights, call.operation)(call.operation, inside)


@functools.singledispatch
def reading_variable(layer):
    """The variable that a layer multiplies the channels of its input with, and their axis.

    Returns:
        The pair, or `None` where it is not known, or not one variable whose entries along an axis
        are the channels.
    """
    del layer
