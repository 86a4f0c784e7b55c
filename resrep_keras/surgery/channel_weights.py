"""The weights that make each channel of a layer: one rule per layer of its own kind."""

import functools

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.layers.gated import Gated, candidate_of, part_of
from resrep_keras.rules.sequences import CONV_RECURRENT, RECURRENT
from resrep_keras.rules.weights import EinsumAxes


@functools.singledispatch
def producing_variable(layer, inside=None):
    """The variable that makes each channel of a layer, and its channel axis.

    Args:
        layer: A layer that makes channels. Without a rule of its own, it is `layer.kernel`.
        inside: Name of the layer's own inner channels, `None` for its outputs.

    Returns:
        The pair, or `None` where it is not known, or not one variable.
    """
    kernel = getattr(layer, "kernel", None)
    known = isinstance(kernel, keras.Variable) and inside is None
    return (kernel, len(kernel.shape) - 1) if known else None


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
    kernel = getattr(layer, "kernel", None)
    return None if kernel is None or inside is not None else ops.convert_to_numpy(kernel)


@register_all(producing_variable, layers.Conv1DTranspose, layers.Conv2DTranspose)
@register_all(producing_variable, layers.Conv3DTranspose)
def _transposed(layer, inside=None):
    return layer.kernel, len(layer.kernel.shape) - 2


@register_all(producing_variable, layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(layer, inside=None):
    return layer.pointwise_kernel, len(layer.pointwise_kernel.shape) - 1


@producing_variable.register
def _einsum_dense(layer: layers.EinsumDense, inside=None):
    return layer.kernel, EinsumAxes(layer).kernel_out


@producing_variable.register
def _embedding(layer: layers.Embedding, inside=None):
    return layer.embeddings, 1


@register_all(producing_variable, layers.SpectralNormalization, Gated)
def _inner_variable(layer, inside=None):
    return rule_of(producing_variable, layer.layer)(layer.layer, inside)


@register_all(producing_weights, layers.SpectralNormalization, Gated)
def _inner(layer, inside=None):
    return rule_of(producing_weights, layer.layer)(layer.layer, inside)


@register_all(producing_weights, *RECURRENT, *CONV_RECURRENT)
def _recurrent(layer, inside=None):
    """All gates of a unit, what it reads and what it remembers."""
    _, number = candidate_of(layer)
    kernels = [layer.cell.kernel, layer.cell.recurrent_kernel]
    rows = [ops.convert_to_numpy(kernel).reshape(-1, kernel.shape[-1]) for kernel in kernels]
    stacked = np.concatenate(rows)
    return stacked.reshape(-1, stacked.shape[-1] // number)


@producing_weights.register
def _bidirectional(layer: layers.Bidirectional, inside=None):
    return np.concatenate([_recurrent(layer.forward_layer), _recurrent(layer.backward_layer)])


# For each kind of inner channel, the kernel that makes it and the kernel's axis.
ATTENTION = {
    None: ("attention_output/kernel", 2),
    "heads": ("value/kernel", 1),
    "value": ("value/kernel", 2),
    "width": ("value/kernel", 2),
    "key": ("query/kernel", 2),
}


@register_all(producing_variable, layers.MultiHeadAttention, layers.GroupQueryAttention)
def _attention(layer, inside=None):
    name, axis = ATTENTION[inside]
    return next(weight for weight in layer.weights if part_of(weight) == name), axis
