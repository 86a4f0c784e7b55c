"""How channels pass through convolutions, dense layers and normalisations."""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.flow import (
    activate,
    beside,
    channel_axis,
    flow,
    register_all,
    rule_of,
)
from resrep_keras.graph.labels import State


def pads(layer):
    """Whether a convolution reads zeros beyond the border."""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def is_depthwise(layer, channels):
    """Whether a grouped convolution filters each channel by itself.

    With several filters a group it does not count as that: which of them go is the same question
    for each group, as in any grouped convolution.
    """
    return 1 < layer.groups == channels == layer.filters


# --- convolutions ------------------------------------------------------------------------------


@register_all(flow, layers.Conv1D, layers.Conv2D, layers.Conv3D)
def _conv(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    if is_depthwise(layer, call.input.shape[axis]):
        return _scaled_apart(layer, call, axis, 1)
    if layer.groups > 1:
        call.tie(call.vector(call.input, axis), layer.groups)
    call.consume(call.input, axis, folds=State.CONSTANT, padded=pads(layer))
    out = call.produce(axis, layer.filters)
    if layer.groups > 1:
        call.tie(out, layer.groups)
    out = call.site(out, axis, diagonal=layer.groups > 1)
    return activate(call, out, layer.activation)


@register_all(flow, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def _depthwise(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    return _scaled_apart(layer, call, axis, layer.depth_multiplier)


def _scaled_apart(layer, call, axis, multiplier):
    """Each channel is filtered by itself: channel `c` goes to `c * multiplier + j`."""
    flow_in = call.vector(call.input, axis)
    out = flow_in.map(lambda a: np.repeat(a, multiplier, axis), call.output_shape)
    if pads(layer):
        out = call.uneven(out)
    if layer.use_bias:
        out = call.constant(out)
    return activate(call, call.site(out, axis, gate=True), layer.activation)


@register_all(flow, layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    call.consume(call.input, axis, folds=State.CONSTANT, padded=pads(layer))
    out = call.produce(axis, layer.filters)
    return activate(call, call.site(out, axis), layer.activation)


@register_all(flow, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed(layer, call):
    """An output position reads as many inputs as its place allows: only zeros are the same."""
    axis = channel_axis(layer, len(call.input.shape))
    call.consume(call.input, axis)
    out = call.produce(axis, layer.filters)
    return activate(call, call.site(out, axis), layer.activation)


# --- dense layers ------------------------------------------------------------------------------


@flow.register
def _dense(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    folds = State.FIXED if axis == 1 else State.CONSTANT
    call.consume(call.input, axis, folds=folds)
    out = call.produce(axis, layer.units)
    return activate(call, call.site(out, axis), layer.activation)


class EinsumAxes:
    """Where an `EinsumDense` reads and makes channels.

    Attributes:
        input, output, kernel_in, kernel_out: Axes, counted from the end; `None` where the equation
            reads or makes channels along several axes.
        per_position: Whether the kernel differs between positions.
    """

    def __init__(self, layer):
        terms, made = layer.equation.replace(" ", "").replace("...", "").split("->")
        read, kernel = terms.split(",")
        contracted = [letter for letter in kernel if letter in read and letter not in made]
        produced = [letter for letter in kernel if letter in made and letter not in read]
        self.simple = len(contracted) == len(produced) == 1 and layer.bias_axes in (
            None,
            *produced,
        )
        self.per_position = len(kernel) > 2
        if self.simple:
            self.letter = produced[0]
            self.input = read.index(contracted[0]) - len(read)
            self.output = made.index(produced[0]) - len(made)
            self.kernel_in = kernel.index(contracted[0]) - len(kernel)
            self.kernel_out = kernel.index(produced[0]) - len(kernel)
            # Letters before an ellipsis would be counted from the wrong end.
            self.simple = self.output == -1 or "..." not in layer.equation


@flow.register
def _einsum_dense(layer: layers.EinsumDense, call):
    axes = EinsumAxes(layer)
    if not axes.simple:
        return call.pin_all("an EinsumDense that reads or makes channels along several axes")
    # Keras on TensorFlow adds a bias of shape (n, 1) along the last axis where that is n long, too: a
    # constant becomes no bias of another axis.
    folds = State.CONSTANT if axes.output == -1 and not axes.per_position else State.ZERO
    call.consume(call.input, len(call.input.shape) + axes.input, folds=folds)
    axis = len(call.output_shape) + axes.output
    out = call.produce(axis, call.output_shape[axis])
    return activate(call, call.site(out, axis), layer.activation)


@flow.register
def _embedding(layer: layers.Embedding, call):
    axis = len(call.output_shape) - 1
    return call.site(call.produce(axis, layer.output_dim), axis)


@flow.register
def _spectral(layer: layers.SpectralNormalization, call):
    return rule_of(flow, layer.layer)(layer.layer, call)


# --- normalisations ----------------------------------------------------------------------------


@flow.register
def _batch_norm(layer: layers.BatchNormalization, call):
    axis = layer.axis % len(call.input.shape)
    flow_in = call.vector(call.input, axis)
    return call.site(call.constant(flow_in), axis, gate=True)


def _axes(layer, rank):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return [axis % rank for axis in axes]


@flow.register
def _layer_norm(layer: layers.LayerNormalization, call):
    axes = _axes(layer, len(call.input.shape))
    if len(axes) > 1:
        return call.pin_all("a LayerNormalization over several axes")
    flow_in = call.vector(call.input, axes[0])
    call.axis_out = axes[0]
    return call.pin_inexact(
        flow_in.replace(state=np.zeros_like(flow_in.state)),
        "a LayerNormalization, whose statistics run over all channels; exact=False allows it",
    )


@flow.register
def _group_norm(layer: layers.GroupNormalization, call):
    """Statistics run over one group: whole groups can go, and nothing changes for the others."""
    axis = layer.axis % len(call.input.shape)
    flow_in = call.vector(call.input, axis)
    if layer.groups == 1:
        call.axis_out = axis
        return call.pin_inexact(
            flow_in.replace(state=np.zeros_like(flow_in.state)),
            "a GroupNormalization of one group, whose statistics run over all channels; exact=False "
            "allows it",
        )
    call.require(flow_in)
    rows = flow_in.labels.reshape(layer.groups, -1)
    call.couple(rows, rows[:, :1])
    return call.site(call.constant(flow_in), axis, gate=True)


@flow.register
def _unit_norm(layer: layers.UnitNormalization, call):
    """Zeros add nothing to a norm."""
    return call.require(call.input)


if hasattr(layers, "RMSNormalization"):

    @flow.register
    def _rms_norm(layer: layers.RMSNormalization, call):
        """Zeros add nothing to the sum of squares; `narrow` corrects the number it is divided by."""
        axes = _axes(layer, len(call.input.shape))
        if len(axes) > 1:
            return call.pin_all("an RMSNormalization over several axes")
        flow_in = call.require(call.vector(call.input, axes[0]))
        call.axis_out = axes[0]
        return flow_in


@flow.register
def _normalization(layer: layers.Normalization, call):
    rank = len(call.input.shape)
    axes = [] if layer.axis is None else _axes(layer, rank)
    if not axes:
        return call.constant(call.input)
    if len(axes) > 1:
        return call.pin_all("a Normalization over several axes")
    call.axis_out = axes[0]
    return call.constant(call.vector(call.input, axes[0]))


# --- element-wise layers with weights or vectors -----------------------------------------------


@flow.register
def _prelu(layer: layers.PReLU, call):
    """Slopes that differ between positions turn a constant into values that do."""
    spatial = np.delete(layer.alpha.shape, call.input.channel_axis - 1)
    return call.uneven(call.input) if (spatial > 1).any() else call.input


@flow.register
def _rescaling(layer: layers.Rescaling, call):
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        last = len(call.input.shape) - 1
        if np.ndim(layer.scale) > 1 or np.ndim(layer.offset) > 1:
            return call.pin_all("a Rescaling with factors along several axes")
        call.axis_out = last
        flow_in = call.vector(call.input, last)
        return flow_in if not np.any(layer.offset) else call.constant(flow_in)
    return call.input if layer.offset == 0 else call.constant(call.input)


LayerScale = beside(keras.applications.ConvNeXtTiny, "LayerScale")
StochasticDepth = beside(keras.applications.ConvNeXtTiny, "StochasticDepth")
CustomScaleLayer = beside(keras.applications.InceptionResNetV2, "CustomScaleLayer")

if LayerScale is not None:

    @flow.register(LayerScale)
    def _layer_scale(layer, call):
        axis = len(call.input.shape) - 1
        call.axis_out = axis
        return call.vector(call.input, axis)


if StochasticDepth is not None:

    @flow.register(StochasticDepth)
    def _stochastic_depth(layer, call):
        return call.input


if CustomScaleLayer is not None:

    @flow.register(CustomScaleLayer)
    def _custom_scale(layer, call):
        return call.merge(call.inputs)
