"""Preprocessing layers inside a model: Normalization and Rescaling."""

import numpy as np
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.graph.flow import flow, register_all
from resrep_keras.rules.normalizations import axes_of
from resrep_keras.surgery.narrow import narrow, take, weight_values


@register_all(runs_in_place, layers.Normalization, layers.Rescaling)
def _in_place(layer):
    return True


# --- Normalization -------------------------------------------------------------------------------


@flow.register
def _normalization_flow(layer: layers.Normalization, call):
    axes = [] if layer.axis is None else axes_of(layer, len(call.input.shape))
    if not axes:
        return call.constant(call.input)
    if len(axes) > 1:
        return call.pin_all("a Normalization over several axes")
    call.axis_out = axes[0]
    return call.constant(call.vector(call.input, axes[0]))


@narrow.register
def _normalization_narrow(layer: layers.Normalization, part):
    config = layer.get_config()
    given = {
        name: take(np.asarray(config[name]), -1, part.keep_out).tolist()
        for name in ("mean", "variance")
        if config.get(name) is not None and np.ndim(config[name])
    }
    weights = [
        value if value.ndim == 0 else take(value, -1, part.keep_out)
        for value in weight_values(layer)
    ]
    return given, weights


# --- Rescaling -----------------------------------------------------------------------------------


@flow.register
def _rescaling_flow(layer: layers.Rescaling, call):
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        last = len(call.input.shape) - 1
        if np.ndim(layer.scale) > 1 or np.ndim(layer.offset) > 1:
            return call.pin_all("a Rescaling with factors along several axes")
        call.axis_out = last
        flow_in = call.vector(call.input, last)
        return flow_in if not np.any(layer.offset) else call.constant(flow_in)
    return call.input if layer.offset == 0 else call.constant(call.input)


@narrow.register
def _rescaling_narrow(layer: layers.Rescaling, part):
    config = {"scale": layer.scale, "offset": layer.offset}
    return {
        name: take(np.asarray(value), 0, part.keep_out).tolist()
        for name, value in config.items()
        if np.ndim(value)
    }, []
