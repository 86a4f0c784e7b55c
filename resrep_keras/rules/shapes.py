"""Layers that change the shape: borders, sizes, the order of axes."""

import math

import numpy as np
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import (
    changes_settings,
    channel_axis,
    depends_on_channels,
    flow,
    register_all,
    takes_several_axes,
)
from resrep_keras.graph.pins import PinKind
from resrep_keras.surgery.narrow import narrow

# --- cropping, upsampling, padding ---------------------------------------------------------------


@register_all(flow, layers.Cropping2D, layers.Cropping3D, layers.UpSampling2D, layers.UpSampling3D)
def spatial_flow(layer, call):
    """Positions come and go; each channel stays by itself."""
    axis = channel_axis(layer, len(call.input.shape))
    return call.vector(call.input, axis).replace(shape=call.output_shape)


@register_all(flow, layers.Cropping1D, layers.UpSampling1D)
def _along_time_flow(layer, call):
    return call.vector(call.input, 2).replace(shape=call.output_shape)


@register_all(flow, layers.ZeroPadding2D, layers.ZeroPadding3D)
def _zero_padding_flow(layer, call):
    return _bordered(layer, call, spatial_flow(layer, call))


def _bordered(layer, call, flow_out):
    """Borders of zeros, where a layer has any: some blocks pad by half of a kernel of 1."""
    return call.uneven(flow_out) if np.any(layer.padding) else flow_out


@flow.register
def _zero_padding_1d_flow(layer: layers.ZeroPadding1D, call):
    return _bordered(layer, call, call.vector(call.input, channel_axis(layer, 3)))


# --- Flatten and Reshape -------------------------------------------------------------------------


@flow.register
def _flatten_flow(layer: layers.Flatten, call):
    flow_in = call.input
    if None in flow_in.shape[1:]:
        return call.pin_all("a Flatten of unknown size", PinKind.UNKNOWN_SIZE)
    flow_in = flow_in.expanded()
    if layer.data_format == "channels_first" and len(flow_in.shape) > 2:
        flow_in = flow_in.replace(
            labels=np.moveaxis(flow_in.labels, 1, -1), state=np.moveaxis(flow_in.state, 1, -1)
        )
    return flow_in.map(lambda a: a.reshape(1, -1), call.output_shape)


@flow.register(layers.Reshape)
@changes_settings
def reshape_flow(layer, call):
    """Channels go wherever their entries go, over several axes too; the next layer reads one."""
    out = reshaped(call.input, call.output_shape)
    if out is None and len(call.input.wide_axes) > 1:  # of unknown size in between
        out = reshaped(call.settle(call.input, max(call.input.wide_axes)), call.output_shape)
    if out is None:
        text = "a Reshape of unknown size, or across examples"
        return call.pin_all(text, PinKind.UNKNOWN_SIZE)
    return out


def reshaped(flow_in, shape):
    """The flow of another shape; `None` where sizes leave open where channels go.

    Axes in front of the channels may be of any size, as long as those behind hold as many entries.
    """
    first = next(iter(flow_in.wide_axes), None)
    if first is None:
        return flow_in.map(lambda a: a.reshape([1] * len(shape)), shape)
    for begin in range(first, 0, -1):
        behind = flow_in.shape[begin:]
        if None in behind:
            break
        end = _axis_with_behind(shape, math.prod(behind))
        if end is not None:
            return _rearranged(flow_in, begin, shape, end)
    return None


def _rearranged(flow_in, begin, shape, end):
    """The flow whose axes from `begin` on become those of `shape` from `end` on."""
    target = [1] * end + list(shape[end:])
    out = flow_in.expanded(range(begin, len(flow_in.shape)))
    out = out.map(lambda a: a.reshape(target), shape)
    if out.labels.size < flow_in.labels.size and out.channel_axis is not None:
        # What had a constant each is one channel now, with a constant for each position.
        return out.only_along(out.channel_axis)
    return out


def _axis_with_behind(shape, size):
    """The last axis from which on a shape holds `size` entries, but the first; else `None`."""
    for end in range(len(shape) - 1, 0, -1):
        if None in shape[end:]:
            return None
        if math.prod(shape[end:]) == size:
            return end
    return None


@narrow.register
def _reshape_narrow(layer: layers.Reshape, part):
    return {"target_shape": sizes_left(layer.target_shape, part.output_shape[1:])}, []


def sizes_left(old, new):
    """New sizes, but where the old ones were left open."""
    return tuple(-1 if size == -1 else fresh for size, fresh in zip(old, new))


@depends_on_channels.register
def _reshape_depends(layer: layers.Reshape):
    return True


@register_all(runs_in_place, layers.Flatten, layers.Reshape)
@register_all(is_fused, layers.Flatten, layers.Reshape)
def _costs_nothing(layer):
    return True


# --- Permute and RepeatVector --------------------------------------------------------------------


@flow.register
def _permute_flow(layer: layers.Permute, call):
    return call.input.map(lambda a: a.transpose((0, *layer.dims)), call.output_shape)


@takes_several_axes.register
def _permute_crosses(layer: layers.Permute):
    return True


@flow.register
def _repeat_vector_flow(layer: layers.RepeatVector, call):
    return call.input.map(lambda a: np.expand_dims(a, 1), call.output_shape)
