"""Raw operations of `keras.ops` that change shapes, pool and multiply."""

import math

import keras
import numpy as np

from resrep_keras.costs.rows import rows
from resrep_keras.graph.flow import flow, register_all, takes_several_axes
from resrep_keras.graph.recording import Probe
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.rules.elementwise import softmax_flow
from resrep_keras.rules.padding import behind_maximum, padded_with
from resrep_keras.rules.shapes import reshape_flow, sizes_left
from resrep_keras.surgery.narrow import narrow

# --- shapes ------------------------------------------------------------------------------------

RESHAPE = operation_class("reshape")
flow.register(RESHAPE)(reshape_flow)


@rows.register(RESHAPE)
def _reshape_rows(operation, call, given):
    """Entries of the other axes can become rows: of windows of an image, say."""
    before, after = (
        [size for size in x.shape[1:] if size is not None]
        for x in (call.tensors[0][0], *call.tensors[1])
    )
    unknown = (
        sum(size is None for size in x.shape[1:]) for x in (call.tensors[0][0], *call.tensors[1])
    )
    if len(set(unknown)) > 1 or given * math.prod(before) % math.prod(after):
        return None
    return given * math.prod(before) // math.prod(after)


@rows.register(Probe)
def _constant_rows(operation, call, given):
    """What a call makes of shapes alone, such as positions, belongs to no example."""
    return 0


@narrow.register(RESHAPE)
def _reshape_narrow(operation, part):
    return {"newshape": sizes_left(operation.newshape, part.output_shape)}, []


@flow.register(operation_class("transpose"))
def _transpose_flow(operation, call):
    return call.input.map(lambda a: np.transpose(a, operation.axes), call.output_shape)


@flow.register(operation_class("swapaxes"))
def _swapaxes_flow(operation, call):
    axes = operation.axis1, operation.axis2
    return call.input.map(lambda a: np.swapaxes(a, *axes), call.output_shape)


@flow.register(operation_class("moveaxis"))
def _moveaxis_flow(operation, call):
    return call.input.map(
        lambda a: np.moveaxis(a, operation.source, operation.destination), call.output_shape
    )


@flow.register(operation_class("expand_dims"))
def _expand_dims_flow(operation, call):
    return call.input.map(lambda a: np.expand_dims(a, operation.axis), call.output_shape)


@flow.register(operation_class("squeeze"))
def _squeeze_flow(operation, call):
    axes = operation.axis
    if axes is None:
        axes = [a for a, size in enumerate(call.input.shape) if size == 1]
    axes = tuple(a % len(call.input.shape) for a in np.atleast_1d(axes).tolist())
    return call.input.map(lambda a: a.squeeze(axes), call.output_shape)


@flow.register(operation_class("average_pool"))
def _average_pool_flow(operation, call):
    return call.vector(call.input, _channel_axis(operation, call)).replace(shape=call.output_shape)


@flow.register(operation_class("max_pool"))
def _max_pool_flow(operation, call):
    axis = _channel_axis(operation, call)
    return behind_maximum(call, operation.pool_size, axis)


@flow.register(operation_class("image.resize"))
def _resize_flow(operation, call):
    flow_in = call.vector(call.input, _channel_axis(operation, call))
    if operation.pad_to_aspect_ratio:
        return padded_with(call, flow_in, operation.fill_value)
    return flow_in.replace(shape=call.output_shape)


def _channel_axis(operation, call):
    data_format = operation.data_format or keras.config.image_data_format()
    return 1 if data_format == "channels_first" else len(call.input.shape) - 1


flow.register(operation_class("softmax"))(softmax_flow)


@register_all(takes_several_axes, *operation_classes("transpose", "swapaxes", "moveaxis"))
def _operation_crosses(operation):
    return True
