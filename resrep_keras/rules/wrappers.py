"""Wrappers: a layer at each entry of a time axis, or with its kernel by its largest gain."""

import numpy as np
from keras import layers

from resrep_keras.costs.latency_model import is_fused
from resrep_keras.costs.macs import macs
from resrep_keras.graph.flow import activation_of, activity_regularizer_of, flow, rule_of
from resrep_keras.graph.inheritance import change_of
from resrep_keras.graph.record import inner_layer
from resrep_keras.graph.recording import Enter, Leave
from resrep_keras.surgery.channel_weights import producing_variable, producing_weights
from resrep_keras.surgery.narrow import narrow, take, weights_of
from resrep_keras.surgery.rebuild import copy_operation


@activation_of.register
def _wrapped_activation(layer: layers.Wrapper):
    return activation_of(layer.layer)


# --- TimeDistributed -----------------------------------------------------------------------------


@inner_layer.register
def _time_distributed_inner(operation: layers.TimeDistributed):
    changed = change_of(operation, layers.TimeDistributed)
    return operation.layer if changed is None else None


@flow.register
def _enter_flow(operation: Enter, call):
    flow_in = call.settle(call.input, *range(2, len(call.input.shape)))
    if flow_in.labels.shape[1] != 1:
        return call.pin_all("a TimeDistributed whose channels lie along the time axis")
    return flow_in.map(lambda a: a.take(0, axis=1), call.output_shape)


@flow.register
def _leave_flow(operation: Leave, call):
    """Each output of the inner layer gets its axis back."""
    return [
        flow_in.map(lambda a: np.expand_dims(a, 1), shape)
        for flow_in, shape in zip(call.inputs, call.output_shapes)
    ]


@is_fused.register(Enter)
@is_fused.register(Leave)
def _no_time_of_their_own(operation):
    return True


# --- SpectralNormalization -----------------------------------------------------------------------


@activity_regularizer_of.register
def _spectral_activity(layer: layers.SpectralNormalization):
    """Both see the same outputs."""
    return layer.activity_regularizer or activity_regularizer_of(layer.layer)


@flow.register
def _spectral_flow(layer: layers.SpectralNormalization, call):
    if layer.activity_regularizer and activity_regularizer_of(layer.layer):
        return call.pin_all("an activity_regularizer of its own beside that of the layer inside")
    return rule_of(flow, layer.layer)(layer.layer, call)


@narrow.register
def _spectral_narrow(layer: layers.SpectralNormalization, part):
    """The layer inside, and the singular vector, which has one entry for each output."""
    config, inner = rule_of(narrow, layer.layer)(layer.layer, part)
    inner = iter(inner)
    vector = weights_of(layer)["vector_u"]
    vector = take(vector, -1, part.keep_out.mask)
    # The order of weights is that of the layer with the new settings.
    names = [weight.path.split("/")[-1] for weight in layer.weights]
    weights = [vector if name == "vector_u" else next(inner) for name in names]
    return config, [*weights, *inner]


@macs.register
def _spectral_macs(layer: layers.SpectralNormalization, call):
    return rule_of(macs, layer.layer)(layer.layer, call)


@producing_variable.register
def _spectral_variable(layer: layers.SpectralNormalization, inside=None):
    return rule_of(producing_variable, layer.layer)(layer.layer, inside)


@producing_weights.register
def _spectral_weights(layer: layers.SpectralNormalization, inside=None):
    return rule_of(producing_weights, layer.layer)(layer.layer, inside)


@copy_operation.register
def _spectral_copy(operation: layers.SpectralNormalization, changes):
    """What changes is the layer inside."""
    own = {key: changes[key] for key in ("name", "dtype") if key in changes}
    inside = {k: v for k, v in changes.items() if k not in ("name", "layer")}
    inner = copy_operation(operation.layer, inside)
    config = {**operation.get_config(), **own}
    config.pop("layer")
    if "activity_regularizer" in changes:
        config.pop("activity_regularizer", None)
    return type(operation)(inner, **config)
