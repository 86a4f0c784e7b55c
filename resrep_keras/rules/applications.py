"""Layers of `keras.applications` that Keras does not export."""

import keras

from resrep_keras.costs.macs import macs, multiplies_nothing
from resrep_keras.graph.flow import flow, register_all
from resrep_keras.keras_adapter import application_classes
from resrep_keras.surgery.narrow import narrow, take, weight_values

LAYER_SCALE = application_classes(keras.applications.ConvNeXtTiny, "LayerScale")
STOCHASTIC_DEPTH = application_classes(keras.applications.ConvNeXtTiny, "StochasticDepth")
CUSTOM_SCALE = application_classes(keras.applications.InceptionResNetV2, "CustomScaleLayer")


@register_all(flow, *LAYER_SCALE)
def _layer_scale_flow(layer, call):
    axis = len(call.input.shape) - 1
    call.axis_out = axis
    return call.vector(call.input, axis)


@register_all(narrow, *LAYER_SCALE)
def _layer_scale_narrow(layer, part):
    gamma = take(weight_values(layer)[0], 0, part.keep_out)
    return {"projection_dim": len(gamma)}, [gamma]


@register_all(flow, *STOCHASTIC_DEPTH)
def _stochastic_depth_flow(layer, call):
    return call.input


register_all(macs, *LAYER_SCALE, *STOCHASTIC_DEPTH, *CUSTOM_SCALE)(multiplies_nothing)


@register_all(flow, *CUSTOM_SCALE)
def _custom_scale_flow(layer, call):
    return call.merge(call.inputs)
