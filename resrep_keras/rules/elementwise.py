"""Layers that work element by element: activations, and what acts in training only."""

import keras
import numpy as np
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import (
    activation_of,
    apply_function,
    flow,
    register_all,
    takes_several_axes,
)
from resrep_keras.surgery.narrow import narrow, take, weights_of
from resrep_keras.surgery.rebuild import copy_operation

# --- activations ---------------------------------------------------------------------------------

ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)


@register_all(flow, *ACTIVATIONS)
def _activation_flow(layer, call):
    return apply_function(call, call.input, activation_of(layer) or layer.call)


@register_all(
    takes_several_axes, *ACTIVATIONS, layers.Identity, layers.GaussianDropout, layers.GaussianNoise
)
def _activation_crosses(layer):
    return True


@takes_several_axes.register
def _dropout_crosses(layer: layers.Dropout):
    return layer.noise_shape is None


@register_all(runs_in_place, *ACTIVATIONS, layers.PReLU, layers.Softmax)
def _activation_in_place(layer):
    return True


@is_fused.register
def _activation_fused(layer: layers.Activation):
    clipped = keras.activations.relu, keras.activations.relu6, keras.activations.linear
    return layer.activation in clipped


@is_fused.register
def _relu_fused(layer: layers.ReLU):
    return True


# --- PReLU ---------------------------------------------------------------------------------------


@flow.register
def _prelu_flow(layer: layers.PReLU, call):
    """Slopes that differ between positions turn a constant into values that do."""
    own = [axis for axis, size in enumerate(layer.alpha.shape, 1) if size > 1]
    flow_in = call.settle(call.input, *own)
    return call.uneven(flow_in) if {*own} - {flow_in.channel_axis} else flow_in


@narrow.register
def _prelu_narrow(layer: layers.PReLU, part):
    alpha = weights_of(layer)["alpha"]
    axis = part.call.outputs[0].channel_axis - 1
    return {}, [alpha if alpha.shape[axis] == 1 else take(alpha, axis, part.keep_out)]


# --- Softmax -------------------------------------------------------------------------------------


@flow.register(layers.Softmax)
def softmax_flow(layer, call):
    """Over positions, zeros become a constant; over channels, all of them matter."""
    rank = len(call.input.shape)
    axes = {int(axis) % rank for axis in np.atleast_1d(layer.axis)}
    flow_in = call.settle(call.input, *({*range(rank)} - axes))
    if flow_in.channel_axis is None or flow_in.channel_axis in axes:
        return call.pin_all("a softmax, whose value depends on all channels together")
    return call.constant(flow_in)


# --- the same in inference -----------------------------------------------------------------------

SAME = (
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


@register_all(flow, *SAME)
def _same_flow(layer, call):
    return call.input


@narrow.register
def _dropout_narrow(layer: layers.Dropout, part):
    """A noise shape may hold the number of channels."""
    axis = part.call.input.channel_axis
    shape = layer.noise_shape
    if shape is None or shape[axis] in (None, 1):
        return {}, []
    return {"noise_shape": (*shape[:axis], part.keep_out.width, *shape[axis + 1 :])}, []


@register_all(runs_in_place, *SAME)
@register_all(is_fused, *SAME)
def _same_costs_nothing(layer):
    return True


@copy_operation.register
def _identity_copy(operation: layers.Identity, changes):
    """Keras writes no configuration of one that was made with a dtype policy."""
    own = {"name": operation.name, "trainable": operation.trainable}
    return layers.Identity(**{**own, "dtype": operation.dtype_policy.name, **changes})
