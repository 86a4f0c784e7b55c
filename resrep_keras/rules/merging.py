"""Layers of several inputs: sums and the like, products, channels in a row."""

from keras import layers

from resrep_keras.graph.blocks import is_sum
from resrep_keras.graph.flow import flow, register_all, takes_several_axes


@register_all(flow, layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
def _merge_flow(layer, call):
    return call.merge(call.inputs)


@is_sum.register(layers.Add)
def adds_up(operation):
    return True


@flow.register
def _multiply_flow(layer: layers.Multiply, call):
    return call.multiply(call.inputs)


@register_all(takes_several_axes, layers.Add, layers.Subtract, layers.Multiply)
def _sum_crosses(layer):
    return True


@flow.register
def _concatenate_flow(layer: layers.Concatenate, call):
    return call.concatenate(call.inputs, layer.axis % len(call.output_shape))
