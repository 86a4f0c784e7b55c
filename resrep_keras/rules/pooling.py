"""Pooling: over windows, over whole images, and to a given size."""

import numpy as np
from keras import layers

from resrep_keras.graph.flow import channel_axis, flow, register_all
from resrep_keras.graph.labels import State
from resrep_keras.keras_adapter import layer_classes
from resrep_keras.rules.padding import behind_maximum
from resrep_keras.rules.shapes import spatial_flow

ADAPTIVE = layer_classes(
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
)

register_all(
    flow,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    *ADAPTIVE,
)(spatial_flow)


@register_all(flow, layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
def _max_flow(layer, call):
    return behind_maximum(call, layer.pool_size, channel_axis(layer, len(call.input.shape)))


@register_all(
    flow,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
def _global_flow(layer, call):
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
