"""Normalisations: what channels, statistics, scales and offsets become with fewer channels."""

import math

import numpy as np
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.file_size import may_be_folded
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import flow
from resrep_keras.graph.pins import PinKind
from resrep_keras.surgery.narrow import batch_norm_weights, narrow, take, weight_values, weights_of


def axes_of(layer, rank):
    """The axes of a layer whose `axis` is one of them or several, counted from the front."""
    return [axis % rank for axis in np.atleast_1d(layer.axis).tolist()]


# --- BatchNormalization --------------------------------------------------------------------------


@flow.register
def _batch_flow(layer: layers.BatchNormalization, call):
    axis = layer.axis % len(call.input.shape)
    flow_in = call.vector(call.input, axis)
    return call.site(call.constant(flow_in), axis, scales=True)


@narrow.register
def _batch_narrow(layer: layers.BatchNormalization, part):
    scale, offset, mean, variance = batch_norm_weights(layer)
    statistics = [take(weight, 0, part.keep_out.mask) for weight in (mean, variance)]
    scaled = [take(weight, 0, part.keep_out) for weight in (scale, offset)]
    if part.keep_out.only_selects:
        there = [layer.scale, layer.center]
        return {}, [*(weight for weight, has in zip(scaled, there) if has), *statistics]
    return {"scale": True, "center": True}, [*scaled, *statistics]


@runs_in_place.register
@is_fused.register
@may_be_folded.register
def _batch_costs_nothing(layer: layers.BatchNormalization):
    return True


# --- LayerNormalization --------------------------------------------------------------------------


@flow.register
def _layer_flow(layer: layers.LayerNormalization, call):
    axes = axes_of(layer, len(call.input.shape))
    if len(axes) > 1:
        return call.pin_all("a LayerNormalization over several axes")
    flow_in = call.vector(call.input, axes[0])
    call.axis_out = axes[0]
    return call.pin_inexact(
        flow_in.replace(state=np.zeros_like(flow_in.state)),
        "a LayerNormalization, whose statistics run over all channels; exact=False allows it",
    )


@narrow.register
def _layer_narrow(layer: layers.LayerNormalization, part):
    return {}, [take(weight, -1, part.keep_out) for weight in weight_values(layer)]


# --- GroupNormalization --------------------------------------------------------------------------


@flow.register
def _group_flow(layer: layers.GroupNormalization, call):
    """Statistics run over one group: whole groups can go, and nothing changes for the others."""
    axis = layer.axis % len(call.input.shape)
    flow_in = call.vector(call.input, axis)
    if layer.groups == 1:
        call.axis_out = axis
        return call.pin_inexact(
            flow_in.replace(state=np.zeros_like(flow_in.state)),
            "a GroupNormalization of one group, whose statistics run over all channels; "
            "exact=False allows it",
        )
    call.require(flow_in)
    rows = flow_in.labels.reshape(layer.groups, -1)
    call.couple(rows, rows[:, :1])
    return call.site(call.constant(flow_in), axis, scales=True)


@narrow.register
def _group_narrow(layer: layers.GroupNormalization, part):
    """Whole groups are kept or gone."""
    keep = part.keep_out
    left = keep.mask.reshape(layer.groups, -1).any(axis=1).sum() if layer.groups > 1 else 1
    if keep.only_selects:
        return {"groups": int(left)}, [take(weight, 0, keep) for weight in weight_values(layer)]
    old = weights_of(layer)
    ones = np.ones(len(keep.mask))
    scaled = [take(old.get("gamma", ones), 0, keep), take(old.get("beta", 0 * ones), 0, keep)]
    return {"groups": int(left), "scale": True, "center": True}, scaled


# --- UnitNormalization and RMSNormalization ------------------------------------------------------


@flow.register
def _unit_flow(layer: layers.UnitNormalization, call):
    """Zeros add nothing to a norm."""
    return call.require(call.input)


@flow.register
def _rms_flow(layer: layers.RMSNormalization, call):
    """Zeros add nothing to the sum of squares; `narrow` corrects the number it is divided by."""
    axes = axes_of(layer, len(call.input.shape))
    if len(axes) > 1:
        return call.pin_all("an RMSNormalization over several axes")
    flow_in = call.require(call.vector(call.input, axes[0]))
    call.axis_out = axes[0]
    if call.frozen:
        call.pin(flow_in, "a frozen RMSNormalization, whose scale is corrected", PinKind.FROZEN)
    return flow_in


@narrow.register
def _rms_narrow(layer: layers.RMSNormalization, part):
    """The mean of squares is over fewer channels: with `s` of them left, times `s`."""
    share = part.keep_out.mask.mean()
    scale = take(weights_of(layer)["scale"], -1, part.keep_out) * math.sqrt(1 / share)
    return {"epsilon": layer.epsilon / float(share)}, [scale]
