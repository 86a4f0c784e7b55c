"""Convolutions: plain and grouped, depthwise, separable, transposed."""

import dataclasses

import numpy as np
from keras import layers

from resrep_keras.costs.macs import labels_along, macs, positions_of, times
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import activate, channel_axis, flow, register_all
from resrep_keras.graph.labels import State
from resrep_keras.surgery.channel_weights import producing_variable, reading_variable
from resrep_keras.surgery.linear import Filtered, Linear, Windows, linear_of
from resrep_keras.surgery.narrow import narrow, take, weights_of, with_bias

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


def pads(layer):
    """Whether a convolution reads zeros beyond the border."""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def windows_of(layer, rank, transposed=False):
    """What a layer with a kernel reads for each position of its output."""
    axis = channel_axis(layer, rank)
    settings = layer.kernel_size, layer.strides, layer.dilation_rate, layer.padding
    return Windows(axis, *settings, transposed)


# --- plain and grouped ---------------------------------------------------------------------------


def is_depthwise(layer, channels):
    """Whether a grouped convolution filters each channel by itself.

    With several filters a group it does not count as that: which of them go is the same question
    for each group, as in any grouped convolution.
    """
    return 1 < layer.groups == channels == layer.filters


@register_all(flow, *CONVOLUTIONS)
def _conv_flow(layer, call):
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


@register_all(narrow, *CONVOLUTIONS)
def _conv_narrow(layer, part):
    old = weights_of(layer)
    if layer.groups == 1:
        kernel, bias = with_bias(part, old["kernel"], old.get("bias"), -2, -1)
        config = {"filters": kernel.shape[-1], "use_bias": bias is not None}
        return config, [kernel] if bias is None else [kernel, bias]
    # Channels go by their position in a group, the same in each; or with their group, where each
    # channel is one. An output may only be selected or scaled.
    inputs = part.keep_in[0]
    depthwise = is_depthwise(layer, len(inputs))
    first_group = inputs[: len(inputs) // layer.groups]
    kernel = old["kernel"]
    kernel, bias = with_bias(
        dataclasses.replace(part, keep_in=(np.ones(kernel.shape[-2], bool),), constants=None),
        kernel,
        _grouped_bias(layer, part, old),
        -2,
        -1,
    )
    if not depthwise:
        kernel = take(kernel, -2, first_group)
    config = {"filters": kernel.shape[-1], "use_bias": bias is not None}
    if depthwise:
        config["groups"] = int(inputs.sum())
    return config, [kernel] if bias is None else [kernel, bias]


def _grouped_bias(layer, part, old):
    """The bias of a grouped convolution, with what removed inputs hold."""
    bias = old.get("bias")
    if part.constants is None:
        return bias
    gone = np.where(part.keep_in[0], 0.0, part.constants).reshape(layer.groups, 1, -1)
    spatial = old["kernel"].sum(axis=tuple(range(old["kernel"].ndim - 2)))
    blocks = spatial.T.reshape(layer.groups, -1, spatial.shape[0])
    added = (gone * blocks).sum(axis=-1).ravel()
    return added if bias is None else bias + added


@register_all(macs, *CONVOLUTIONS)
def _conv_macs(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    outputs = labels_along(call.outputs[0], axis)
    inputs = labels_along(call.input, axis)
    if layer.groups > 1:  # the inputs of one group; groups keep equally many
        inputs = inputs[: len(inputs) // layer.groups]
    factors = (outputs,) if is_depthwise(layer, call.input.shape[axis]) else (inputs, outputs)
    return Term(times(positions_of(call.output_shape, axis), *layer.kernel_size), factors)


@register_all(reading_variable, *CONVOLUTIONS)
def _conv_reads(layer):
    """In a grouped one an entry stands for a channel of each group."""
    return (layer.kernel, len(layer.kernel.shape) - 2) if layer.groups == 1 else None


@register_all(linear_of, *CONVOLUTIONS)
def _conv_linear(layer):
    if layer.groups > 1:
        return None
    return Linear(layer.kernel, layer.bias, windows_of(layer, len(layer.kernel.shape)))


# --- depthwise -----------------------------------------------------------------------------------


@register_all(flow, *DEPTHWISE)
def _depthwise_flow(layer, call):
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
    return activate(call, call.site(out, axis, scales=True), layer.activation)


@register_all(narrow, *DEPTHWISE)
def _depthwise_narrow(layer, part):
    old = weights_of(layer)
    shape = (*old["kernel"].shape[:-2], -1, layer.depth_multiplier)
    # Output channel c * depth_multiplier + j comes from input channel c.
    flat = old["kernel"].reshape(*shape[:-2], -1)
    new = [take(flat, -1, part.keep_out).reshape(shape)]
    return {}, new + ([take(old["bias"], 0, part.keep_out)] if layer.use_bias else [])


@register_all(macs, *DEPTHWISE)
def _depthwise_macs(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    positions = positions_of(call.output_shape, axis)
    return Term(times(positions, *layer.kernel_size), (labels_along(call.outputs[0], axis),))


# --- separable -----------------------------------------------------------------------------------


@register_all(flow, *SEPARABLE)
def _separable_flow(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    call.consume(call.input, axis, folds=State.CONSTANT, padded=pads(layer))
    out = call.produce(axis, layer.filters)
    return activate(call, call.site(out, axis), layer.activation)


@register_all(narrow, *SEPARABLE)
def _separable_narrow(layer, part):
    old = weights_of(layer)
    depthwise, pointwise = old["depthwise_kernel"], old["pointwise_kernel"]
    rows = np.repeat(part.keep_in[0], layer.depth_multiplier)
    constants = part.constants
    if constants is not None:
        spatial = depthwise.sum(axis=tuple(range(depthwise.ndim - 2)))
        constants = (constants[:, None] * spatial).ravel()
    inner = dataclasses.replace(part, keep_in=(rows,), constants=constants)
    pointwise, bias = with_bias(inner, pointwise, old.get("bias"), -2, -1)
    config = {"filters": pointwise.shape[-1], "use_bias": bias is not None}
    weights = [take(depthwise, -2, part.keep_in[0]), pointwise]
    return config, weights if bias is None else [*weights, bias]


@register_all(macs, *SEPARABLE)
def _separable_macs(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    each = times(positions_of(call.output_shape, axis), layer.depth_multiplier)
    inputs, outputs = labels_along(call.input, axis), labels_along(call.outputs[0], axis)
    return [Term(times(each, *layer.kernel_size), (inputs,)), Term(each, (inputs, outputs))]


@register_all(producing_variable, *SEPARABLE)
def _separable_weights(layer, inside=None):
    return layer.pointwise_kernel, len(layer.pointwise_kernel.shape) - 1


@register_all(reading_variable, *SEPARABLE)
def _separable_reads(layer):
    """Several entries stand for a channel where it is filtered more than once."""
    axis = len(layer.pointwise_kernel.shape) - 2
    return (layer.pointwise_kernel, axis) if layer.depth_multiplier == 1 else None


@register_all(linear_of, *SEPARABLE)
def _separable_linear(layer):
    windows = windows_of(layer, len(layer.pointwise_kernel.shape))
    return Linear(layer.pointwise_kernel, layer.bias, Filtered(windows, layer.depthwise_kernel))


# --- transposed ----------------------------------------------------------------------------------


@register_all(flow, *TRANSPOSED)
def _transposed_flow(layer, call):
    """An output position reads as many inputs as its place allows: only zeros are the same."""
    axis = channel_axis(layer, len(call.input.shape))
    call.consume(call.input, axis)
    out = call.produce(axis, layer.filters)
    return activate(call, call.site(out, axis), layer.activation)


@register_all(narrow, *TRANSPOSED)
def _transposed_narrow(layer, part):
    """Their kernels have the outputs before the inputs."""
    old = weights_of(layer)
    kernel, bias = with_bias(part, old["kernel"], old.get("bias"), -1, -2)
    config = {"filters": kernel.shape[-2], "use_bias": bias is not None}
    return config, [kernel] if bias is None else [kernel, bias]


@register_all(macs, *TRANSPOSED)
def _transposed_macs(layer, call):
    """Each input position is multiplied with the whole kernel, as if no border cut it."""
    axis = channel_axis(layer, len(call.input.shape))
    positions = positions_of(call.input.shape, axis)
    factors = labels_along(call.input, axis), labels_along(call.outputs[0], axis)
    return Term(times(positions, *layer.kernel_size), factors)


@register_all(producing_variable, *TRANSPOSED)
def _transposed_weights(layer, inside=None):
    return layer.kernel, len(layer.kernel.shape) - 2


@register_all(reading_variable, *TRANSPOSED)
def _transposed_reads(layer):
    return layer.kernel, len(layer.kernel.shape) - 1


@register_all(linear_of, *TRANSPOSED)
def _transposed_linear(layer):
    if layer.output_padding is not None:
        return None
    rank = len(layer.kernel.shape)
    order = (*range(rank - 2), rank - 1, rank - 2)
    return Linear(layer.kernel, layer.bias, windows_of(layer, rank, transposed=True), order)
