"""How channels pass through recurrent and attention layers.

A unit of a recurrent layer feeds back into its layer, so that a compactor behind the layer could not
remove it. Instead a *gate* inside scales what enters the unit's state: the candidate values before
their activation. With the gate at zero the state stays zero from the first step on. Heads and widths
of an attention layer have gates of the same kind. Gates are vectors, and part of the weights.
"""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.flow import channel_axis, flow, keeps_zero, register_all, rule_of
from resrep_keras.graph.labels import State
from resrep_keras.rules.weights import pads

RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)
CONV_RECURRENT = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)


def units_of(layer):
    """The number of units, or filters, of a recurrent layer."""
    return layer.filters if isinstance(layer, CONV_RECURRENT) else layer.units


def _why_not(layer):
    """Why the units of a recurrent layer must be kept, or `None`."""
    if layer.stateful:
        return "a stateful recurrent layer"
    if not keeps_zero(layer.activation):
        return "a recurrent layer whose activation is not zero at zero"
    return None


def _read(layer, call):
    """The layer's own weights read its first input."""
    rank = len(call.input.shape)
    if isinstance(layer, CONV_RECURRENT):
        call.consume(
            call.input, channel_axis(layer, rank), folds=State.CONSTANT, padded=pads(layer)
        )
    else:
        call.consume(call.input, rank - 1, folds=State.CONSTANT)


def _axis(layer, shape):
    """Channel axis of an output or state, with or without a time axis."""
    if isinstance(layer, CONV_RECURRENT) and layer.data_format == "channels_first":
        return len(shape) - 1 - len(layer.kernel_size)
    return len(shape) - 1


def _states(layer, call, made):
    """Initial states have the units' channels, and must be zero where those are removed."""
    given = call.argument("initial_state", 1)
    for state in call.flows_of(given):
        axis = _axis(layer, state.shape)
        state = call.require(call.vector(state, axis))
        call.couple(state.labels.ravel(), made.labels.ravel())


def _outputs(layer, call, made):
    """All outputs, sequences and states, have the units' channels."""
    flows = []
    for shape in call.output_shapes:
        axis = _axis(layer, shape)
        size = [1] * len(shape)
        size[axis] = -1
        repeats = shape[axis] // made.labels.size
        flows.append(
            made.replace(
                labels=np.tile(made.labels.ravel(), repeats).reshape(size),
                state=np.tile(made.state.ravel(), repeats).reshape(size),
                shape=shape,
            )
        )
    return flows


@register_all(flow, *RECURRENT, *CONV_RECURRENT)
def _recurrent(layer, call):
    _read(layer, call)
    axis = _axis(layer, call.output_shape)
    made = call.gate_outputs(call.produce(axis, units_of(layer)), "units")
    _states(layer, call, made)
    reason = _why_not(layer)
    if reason:
        call.pin(made, reason)
    return _outputs(layer, call, made)


@flow.register
def _bidirectional(layer: layers.Bidirectional, call):
    """Both directions give up the same units: Keras makes them equally wide."""
    directions = (layer.forward_layer, layer.backward_layer)
    if any(rule_of(flow, part) is not _recurrent for part in directions):
        return call.pin_all("a Bidirectional of a layer that has no rule")
    if len({units_of(part) for part in directions}) > 1:
        return call.pin_all("a Bidirectional of differently wide layers")
    forward = layer.forward_layer
    _read(forward, call)
    call.axis_out = _axis(forward, call.output_shape)
    made = call.produce(call.axis_out, units_of(forward))
    made = call.gate_outputs(made, "units")
    _states(forward, call, made)
    for reason in filter(None, map(_why_not, directions)):
        call.pin(made, reason)
    return _outputs(forward, call, made)


# --- attention -----------------------------------------------------------------------------------


@register_all(flow, layers.Attention, layers.AdditiveAttention)
def _attention(layer, call):
    """Query and key are compared channel by channel; the output has the channels of the value."""
    given = call.flows_of(call.argument("inputs", 0))
    query, value, key = given if len(given) == 3 else (*given, given[1])
    last = len(query.shape) - 1
    query, key, value = (call.vector(x, len(x.shape) - 1) for x in (query, key, value))
    call.axis_in = last
    call.couple(query.labels.ravel(), key.labels.ravel())
    call.require(query)
    call.require(key)
    # Weights of a softmax sum to one, so that a constant stays one; all else varies.
    state = np.where(value.state > State.CONSTANT, State.VARYING, value.state).astype(np.int8)
    out = value.replace(shape=call.output_shape, state=state)
    scores = [call.neutral(shape) for shape in call.output_shapes[1:]]
    call.axis_out = len(call.output_shape) - 1
    return [out, *scores]


def _project(call):
    """The projections of an attention layer read query, value and key."""
    for name, position in (("query", 0), ("value", 1), ("key", 2)):
        for flow_in in call.flows_of(call.argument(name, position)):
            call.consume(flow_in, len(flow_in.shape) - 1)


@flow.register
def _multi_head(layer: layers.MultiHeadAttention, call):
    if len(call.output_shapes) > 1:
        return call.pin_all("a MultiHeadAttention that returns its scores")
    _project(call)
    config = layer.get_config()
    call.hold("heads", config["num_heads"])
    widths = config["key_dim"], config["value_dim"] or config["key_dim"]
    if keras.backend.backend() == "jax" and widths[0] == widths[1]:
        call.hold("width", widths[0])  # whose attention takes one width for keys and values
    else:
        call.hold("key", widths[0])
        call.hold("value", widths[1])
    axis = len(call.output_shape) - 1
    made = call.produce(axis, call.output_shape[axis])
    return call.site(made, axis, shifts=config["use_bias"])


@flow.register
def _grouped_query(layer: layers.GroupQueryAttention, call):
    if len(call.output_shapes) > 1:
        return call.pin_all("a GroupQueryAttention that returns its scores")
    _project(call)
    config = layer.get_config()
    call.hold("heads", config["num_key_value_heads"])
    call.hold("width", config["head_dim"])
    axis = len(call.output_shape) - 1
    out = call.produce(axis, call.output_shape[axis])
    # Keras wants one width for all of them.
    for flow_in in call.inputs:
        if len(flow_in.shape) == len(out.shape):
            call.couple(call.vector(flow_in, axis).labels.ravel(), out.labels.ravel())
    return call.site(out, axis, shifts=config["use_bias"])


@flow.register
def _masking(layer: layers.Masking, call):
    if layer.mask_value != 0:
        return call.pin_all("a Masking, which compares all channels with its value")
    return call.require(call.input)
