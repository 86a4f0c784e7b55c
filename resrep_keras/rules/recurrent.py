"""Recurrent layers, in one direction or both, and the masking of time steps before them.

A unit of a recurrent layer feeds back into its layer, so that a compactor behind the layer could not
remove it. Instead a *gate* inside scales what enters the unit's state: the candidate values before
their activation. With the gate at zero the state stays zero from the first step on. Gates are vectors,
and part of the weights.
"""

import math

import numpy as np
from keras import layers, ops

from resrep_keras.costs.macs import labels_along, macs, times
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import flow, keeps_zero, register_all, rule_of
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import PinKind
from resrep_keras.keras_adapter import channel_axis
from resrep_keras.layers.gated import gate_factors
from resrep_keras.rules.convolutions import pads
from resrep_keras.surgery.channel_weights import producing_weights
from resrep_keras.surgery.narrow import narrow, take, weight_values
from resrep_keras.surgery.rebuild import copy_operation

CONV_RECURRENT = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN, *CONV_RECURRENT)

# Position of the candidate values among the gates of a layer's kernel, and the number of gates.
CANDIDATE = {
    layers.LSTM: (2, 4),
    layers.GRU: (2, 3),
    layers.SimpleRNN: (0, 1),
    **{kind: (2, 4) for kind in CONV_RECURRENT},
}


def candidate_of(layer):
    """Position of the candidate values in a recurrent layer's kernel, and the number of parts."""
    return next(CANDIDATE[kind] for kind in type(layer).__mro__ if kind in CANDIDATE)


def units_of(layer):
    """The number of units, or filters, of a recurrent layer."""
    return layer.filters if isinstance(layer, CONV_RECURRENT) else layer.units


# --- how channels pass ---------------------------------------------------------------------------


@register_all(flow, *RECURRENT)
def _recurrent_flow(layer, call):
    _read(layer, call)
    axis = _axis(layer, call.output_shape)
    made = call.gate_outputs(call.produce(axis, units_of(layer)), "units")
    _states(layer, call, made)
    _pin_units(layer, call, made)
    return _outputs(layer, call, made)


@flow.register
def _bidirectional_flow(layer: layers.Bidirectional, call):
    """Both directions give up the same units: Keras makes them equally wide."""
    directions = (layer.forward_layer, layer.backward_layer)
    if any(rule_of(flow, part) is not _recurrent_flow for part in directions):
        return call.pin_all("a Bidirectional of a layer that has no rule")
    if len({units_of(part) for part in directions}) > 1:
        return call.pin_all("a Bidirectional of differently wide layers")
    forward = layer.forward_layer
    _read(forward, call)
    call.axis_out = _axis(forward, call.output_shape)
    made = call.produce(call.axis_out, units_of(forward))
    made = call.gate_outputs(made, "units")
    _states(forward, call, made)
    for part in directions:
        _pin_units(part, call, made)
    return _outputs(forward, call, made)


def _pin_units(layer, call, made):
    """Keep the units of a recurrent layer that a removed one would change."""
    if layer.stateful:
        call.pin(made, "a stateful recurrent layer", PinKind.STATEFUL)
    elif not keeps_zero(layer.activation):
        call.pin(made, "a recurrent layer whose activation is not zero at zero")


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


# --- gates inside --------------------------------------------------------------------------------


@register_all(gate_factors, *RECURRENT)
def _recurrent_gates(layer, gates):
    """Candidate values before their activation: at zero, the state stays zero."""
    return _factors(layer, layer, gates)


@gate_factors.register
def _bidirectional_gates(layer: layers.Bidirectional, gates):
    return _factors(layer, layer.forward_layer, gates)


def _factors(layer, direction, gates):
    position, number = candidate_of(direction)
    parts = [ops.ones_like(gates["units"])] * number
    parts[position] = gates["units"]
    factor = ops.concatenate(parts)
    return [factor if _is_kernel(weight) else None for weight in layer.weights]


def _is_kernel(weight):
    return weight.path.endswith(("kernel", "bias"))


# --- with fewer units ----------------------------------------------------------------------------


@register_all(narrow, *RECURRENT)
def _recurrent_narrow(layer, part):
    keep = part.inside["units"]
    values = weight_values(layer)
    kernels = [value for weight, value in zip(layer.weights, values) if _is_kernel(weight)]
    new = _kernels(layer, kernels, part, keep)
    width = "filters" if isinstance(layer, CONV_RECURRENT) else "units"
    config = {width: int(keep.sum()), "use_bias": len(new) > 2}
    # Other weights, such as the state of a random generator, stay in their places.
    rest = iter(new)
    weights = [next(rest) if _is_kernel(w) else value for w, value in zip(layer.weights, values)]
    return config, [*weights, *rest]


def _kernels(layer, values, part, keep):
    """Kernel, recurrent kernel and bias of one direction."""
    _, number = candidate_of(layer)
    columns = np.tile(keep, number)
    kernel, recurrent, *bias = values
    if part.constants is not None:
        gone = np.where(part.keep_in[0], 0.0, part.constants)
        added = gone @ kernel.sum(axis=tuple(range(kernel.ndim - 2)))
        bias = bias or [np.zeros(_bias_shape(layer, len(added)))]
        row = bias[0][0] if bias[0].ndim == 2 else bias[0]
        row += added
    kernel = take(take(kernel, -2, part.keep_in[0]), -1, columns)
    recurrent = take(take(recurrent, -2, keep), -1, columns)
    return [kernel, recurrent, *(take(b, -1, columns) for b in bias)]


def _bias_shape(layer, width):
    return (2, width) if getattr(layer, "reset_after", False) else (width,)


@narrow.register
def _bidirectional_narrow(layer: layers.Bidirectional, part):
    parts = [
        rule_of(narrow, direction)(direction, part)
        for direction in (layer.forward_layer, layer.backward_layer)
    ]
    return parts[0][0], [*parts[0][1], *parts[1][1]]


@copy_operation.register
def _bidirectional_copy(operation: layers.Bidirectional, changes):
    """What changes are the layers of both directions."""
    inside = {k: v for k, v in changes.items() if k != "name"}
    forward, backward = (
        copy_operation(layer, inside)
        for layer in (operation.forward_layer, operation.backward_layer)
    )
    config = {**operation.get_config(), **{k: v for k, v in changes.items() if k == "name"}}
    for key in ("layer", "backward_layer"):
        config.pop(key, None)
    return type(operation)(forward, backward_layer=backward, **config)


# --- costs ---------------------------------------------------------------------------------------


@register_all(macs, *RECURRENT)
def _recurrent_macs(layer, call):
    return _one_direction(layer, call, call.inside["units"])


@macs.register
def _bidirectional_macs(layer: layers.Bidirectional, call):
    if "units" not in call.inside:
        return None
    return 2 * _one_direction(layer.forward_layer, call, call.inside["units"])


def _one_direction(layer, call, units):
    _, gates = candidate_of(layer)
    if isinstance(layer, CONV_RECURRENT):
        axis = channel_axis(layer, len(call.input.shape))
        time = call.input.shape[1]
        # The state is as large as an output without time.
        shape = layer.compute_output_shape(call.input.shape)
        shape = shape[0] if isinstance(shape[0], (list, tuple)) else shape
        sizes = shape[2:] if layer.return_sequences else shape[1:]
        first = layer.data_format == "channels_first"
        positions = None if None in sizes else math.prod(sizes[1:] if first else sizes[:-1])
        taps = math.prod(layer.kernel_size)
    else:
        axis, time, positions, taps = 2, call.input.shape[1], 1, 1
    steps = None if None in (time, positions) else time * positions
    return [
        Term(times(steps, gates, taps), (labels_along(call.input, axis), units)),
        Term(times(steps, gates, taps), (units, units)),
    ]


# --- the weights of a unit -----------------------------------------------------------------------


@register_all(producing_weights, *RECURRENT)
def _recurrent_weights(layer, inside=None):
    """All gates of a unit, what it reads and what it remembers."""
    _, number = candidate_of(layer)
    kernels = [layer.cell.kernel, layer.cell.recurrent_kernel]
    rows = [ops.convert_to_numpy(kernel).reshape(-1, kernel.shape[-1]) for kernel in kernels]
    stacked = np.concatenate(rows)
    return stacked.reshape(-1, stacked.shape[-1] // number)


@producing_weights.register
def _bidirectional_weights(layer: layers.Bidirectional, inside=None):
    directions = (layer.forward_layer, layer.backward_layer)
    return np.concatenate([_recurrent_weights(direction) for direction in directions])


# --- Masking -------------------------------------------------------------------------------------


@flow.register
def _masking_flow(layer: layers.Masking, call):
    if layer.mask_value != 0:
        return call.pin_all("a Masking, which compares all channels with its value")
    return call.require(call.input)
