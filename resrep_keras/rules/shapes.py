"""How channels pass through layers and operations without weights."""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.flow import apply_function, channel_axis, flow, register_all
from resrep_keras.graph.labels import State
from resrep_keras.graph.recording import Enter, Leave


def operation_kind(function, arity=1, shape=(4, 4), **kwargs):
    """The operation class behind a `keras.ops` function, found by calling it symbolically."""
    inputs = [keras.Input(shape) for _ in range(arity)]
    return type(keras.Model(inputs, function(*inputs, **kwargs)).operations[-1])


# --- at each entry of axis 1 -------------------------------------------------------------------


@flow.register
def _enter(operation: Enter, call):
    if call.input.labels.shape[1] != 1:
        return call.pin_all("a TimeDistributed whose channels lie along the time axis")
    return call.input.map(lambda a: a.take(0, axis=1), call.output_shape)


@flow.register
def _leave(operation: Leave, call):
    """Each output of the inner layer gets its axis back."""
    return [
        flow_in.map(lambda a: np.expand_dims(a, 1), shape)
        for flow_in, shape in zip(call.inputs, call.output_shapes)
    ]


# --- element-wise ------------------------------------------------------------------------------


@register_all(flow, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
def _activation(layer, call):
    function = getattr(layer, "activation", None) or layer.call
    return apply_function(call, call.input, function)


def softmax(layer, call):
    """Over positions, zeros become a constant; over channels, all of them matter."""
    axes = np.atleast_1d(layer.axis) % len(call.input.shape)
    if call.input.channel_axis is None or call.input.channel_axis in axes:
        return call.pin_all("a softmax, whose value depends on all channels together")
    return call.constant(call.input)


flow.register(layers.Softmax)(softmax)


@register_all(
    flow,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
)
def _same(layer, call):
    return call.input


# --- spatial -----------------------------------------------------------------------------------


def _spatial(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    return call.vector(call.input, axis).replace(shape=call.output_shape)


ADAPTIVE = [
    getattr(layers, f"Adaptive{kind}Pooling{rank}D")
    for kind in ("Average", "Max")
    for rank in (1, 2, 3)
    if hasattr(layers, f"Adaptive{kind}Pooling{rank}D")
]


@register_all(
    flow,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    *ADAPTIVE,
)
def _pooling(layer, call):
    return _spatial(layer, call)


@register_all(flow, layers.ZeroPadding2D, layers.ZeroPadding3D)
def _zero_padding(layer, call):
    return call.uneven(_spatial(layer, call))


@register_all(flow, layers.Cropping1D, layers.UpSampling1D)
def _along_time(layer, call):
    return call.vector(call.input, 2).replace(shape=call.output_shape)


@flow.register
def _zero_padding_1d(layer: layers.ZeroPadding1D, call):
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else 2
    return call.uneven(call.vector(call.input, axis))


@register_all(
    flow,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
def _global_pooling(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    flow_in = call.vector(call.input, axis)
    spatial = tuple(a for a in range(1, len(flow_in.shape)) if a != axis)
    return reduced(call, flow_in, spatial, layer.keepdims)


def reduced(call, flow_in, axes, keepdims):
    """The flow behind a sum, mean or extreme over axes without channels."""
    state = np.where(flow_in.state == State.FIXED, State.CONSTANT, flow_in.state)
    every = set(range(1, len(flow_in.shape))) <= {*axes, flow_in.channel_axis}
    if every:
        flow_in = flow_in.replace(state=state.astype(np.int8))
    if keepdims:
        return flow_in.replace(shape=call.output_shape)
    return flow_in.map(lambda a: a.squeeze(tuple(axes)), call.output_shape)


# --- shapes ------------------------------------------------------------------------------------


@flow.register
def _flatten(layer: layers.Flatten, call):
    flow_in = call.input
    if None in flow_in.shape[1:]:
        return call.pin_all("a Flatten of unknown size")
    flow_in = flow_in.expanded()
    if layer.data_format == "channels_first" and len(flow_in.shape) > 2:
        flow_in = flow_in.replace(
            labels=np.moveaxis(flow_in.labels, 1, -1), state=np.moveaxis(flow_in.state, 1, -1)
        )
    return flow_in.map(lambda a: a.reshape(1, -1), call.output_shape)


def reshape(layer, call):
    """Follows the channel axis where it survives as one axis; axes of 1 come and go."""
    flow_in, shape = call.input, call.output_shape
    axis = flow_in.channel_axis
    last = axis == len(flow_in.shape) - 1 and flow_in.shape[-1] == shape[-1] is not None
    if axis is None:
        return call.pin_all("a Reshape of channels that lie along several axes")
    if last:  # only other axes are reshaped, their sizes do not matter
        target = (*[1] * (len(shape) - 1), -1)
        return flow_in.map(lambda a: a.reshape(target), shape)
    known = None not in (*flow_in.shape[1:], *shape[1:])
    if not known or np.prod(flow_in.shape[1:]) != np.prod(shape[1:]):
        return call.pin_all("a Reshape of unknown size, or across examples")
    out = flow_in.expanded().map(lambda a: a.reshape((1, *shape[1:])), shape)
    if out.channel_axis is None:
        return call.pin_all("a Reshape that spreads channels over several axes")
    return out


flow.register(layers.Reshape)(reshape)


@flow.register
def _permute(layer: layers.Permute, call):
    return call.input.map(lambda a: a.transpose((0, *layer.dims)), call.output_shape)


@flow.register
def _repeat_vector(layer: layers.RepeatVector, call):
    return call.input.map(lambda a: np.expand_dims(a, 1), call.output_shape)


# --- several inputs ----------------------------------------------------------------------------


@register_all(flow, layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
def _merge(layer, call):
    return call.merge(call.inputs)


@flow.register
def _multiply(layer: layers.Multiply, call):
    return call.multiply(call.inputs)


@flow.register
def _concatenate(layer: layers.Concatenate, call):
    return call.concatenate(call.inputs, layer.axis % len(call.output_shape))
