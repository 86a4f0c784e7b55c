"""Recurrent layers, in one direction or both, and the masking of time steps before them.

A unit of a recurrent layer feeds back into its layer, so that a compactor behind the layer could
not remove it. Instead a *gate* inside scales what enters the unit's state: the candidate values
before their activation. With the gate at zero the state stays zero from the first step on. Gates
are vectors, and part of the weights.
"""

import dataclasses
import functools
import math

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.costs.macs import (
    labels_along,
    look_inside,
    macs,
    parts_inside,
    positions_of,
    times,
    whole_axis,
)
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import flow, register_all, rule_of
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.probe import keeps_zero
from resrep_keras.keras_adapter import data_format
from resrep_keras.layers.gated import gate_factors
from resrep_keras.rules.convolutions import pads
from resrep_keras.surgery.channel_weights import producing_weights
from resrep_keras.surgery.narrow import narrow, take, weight_values
from resrep_keras.surgery.rebuild import copy_operation

CONV_RECURRENT = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN, *CONV_RECURRENT)


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the rules have to know of a recurrent layer.

    Args:
        setting: Name of the setting that holds the number of units.
        units: The number of units, or filters.
        candidate: Position of the candidate values among the gates of a kernel.
        gates: Number of gates.
        bias_shape: Shape of a bias, without its last axis.
        taps: Entries of the kernel for each input and gate.
        behind: Number of axes behind that of the channels.
        padded: Whether the kernel also reads zeros beyond the border.
    """

    setting: str
    units: int
    candidate: int
    gates: int
    bias_shape: tuple = ()
    taps: int = 1
    behind: int = 0
    padded: bool = False

    def axis(self, shape):
        """Channel axis of an input, output or state, with or without a time axis."""
        return len(shape) - 1 - self.behind


@functools.singledispatch
def cell_of(layer):
    """The `Cell` of a recurrent layer."""
    raise TypeError(f"Expected a recurrent layer of Keras; got a {type(layer).__name__}.")


@cell_of.register
def _lstm_cell(layer: layers.LSTM):
    return Cell("units", layer.units, candidate=2, gates=4)


@cell_of.register
def _gru_cell(layer: layers.GRU):
    bias_shape = (2,) if layer.reset_after else ()
    return Cell("units", layer.units, candidate=2, gates=3, bias_shape=bias_shape)


@cell_of.register
def _simple_cell(layer: layers.SimpleRNN):
    return Cell("units", layer.units, candidate=0, gates=1)


@register_all(cell_of, *CONV_RECURRENT)
def _convolving_cell(layer):
    return Cell(
        "filters",
        layer.filters,
        candidate=2,
        gates=4,
        taps=math.prod(layer.kernel_size),
        behind=len(layer.kernel_size) if data_format(layer) == "channels_first" else 0,
        padded=pads(layer),
    )


# --- how channels pass ---------------------------------------------------------------------------


@register_all(flow, *RECURRENT)
def _recurrent_flow(layer, call):
    return _units_flow(cell_of(layer), (layer,), call)


@flow.register
def _bidirectional_flow(layer: layers.Bidirectional, call):
    """Both directions give up the same units: Keras makes them equally wide."""
    directions = (layer.forward_layer, layer.backward_layer)
    if any(rule_of(flow, direction) is not _recurrent_flow for direction in directions):
        return call.pin_all("a Bidirectional of a layer that has no rule")
    cells = [cell_of(direction) for direction in directions]
    if cells[0].units != cells[1].units:
        return call.pin_all("a Bidirectional of differently wide layers")
    return _units_flow(cells[0], directions, call)


def _units_flow(cell, directions, call):
    """The weights read the first input; units are made, and a gate inside forgets them."""
    axis = cell.axis(call.input.shape)
    call.consume(call.input, axis, folds=State.CONSTANT, padded=cell.padded)
    made = call.produce(cell.axis(call.output_shape), cell.units)
    made = call.gate_outputs(made, "units")
    _states(cell, call, made)
    for direction in directions:
        _pin_units(direction, call, made)
    return _outputs(cell, call, made)


def _pin_units(layer, call, made):
    """Keep the units of a recurrent layer that a removed one would change."""
    if layer.stateful:
        call.pin(made, "a stateful recurrent layer", PinKind.STATEFUL)
    elif not keeps_zero(layer.activation):
        call.pin(made, "a recurrent layer whose activation is not zero at zero")


def _states(cell, call, made):
    """Initial states have the units' channels, and must be zero where those are removed."""
    for state in call.flows_of(call.argument("initial_state", 1)):
        state = call.require(call.vector(state, cell.axis(state.shape)))
        call.couple(state.labels.ravel(), made.labels.ravel())


def _outputs(cell, call, made):
    """All outputs, sequences and states, have the units' channels."""
    flows = []
    for shape in call.output_shapes:
        axis = cell.axis(shape)
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
    cell = cell_of(direction)
    factors = [ops.ones_like(gates["units"])] * cell.gates
    factors[cell.candidate] = gates["units"]
    factor = ops.concatenate(factors)
    return [factor if _is_kernel(weight) else None for weight in layer.weights]


def _is_kernel(weight):
    return weight.path.endswith(("kernel", "bias"))


# --- with fewer units ----------------------------------------------------------------------------


@register_all(narrow, *RECURRENT)
def _recurrent_narrow(layer, part):
    keep = part.inside["units"]
    values = weight_values(layer)
    kernels = [value for weight, value in zip(layer.weights, values) if _is_kernel(weight)]
    cell = cell_of(layer)
    new = _kernels(cell, kernels, part, keep)
    config = {cell.setting: int(keep.sum()), "use_bias": len(new) > 2}
    # Other weights, such as the state of a random generator, stay in their places.
    rest = iter(new)
    weights = [next(rest) if _is_kernel(w) else value for w, value in zip(layer.weights, values)]
    return config, [*weights, *rest]


def _kernels(cell, values, part, keep):
    """Kernel, recurrent kernel and bias of one direction."""
    columns = np.tile(keep, cell.gates)
    kernel, recurrent, *bias = values
    if part.constants is not None:
        gone = np.where(part.keep_in[0], 0.0, part.constants)
        added = gone @ kernel.sum(axis=tuple(range(kernel.ndim - 2)))
        bias = bias or [np.zeros((*cell.bias_shape, len(added)))]
        row = bias[0][0] if bias[0].ndim == 2 else bias[0]
        row += added
    kernel = take(take(kernel, -2, part.keep_in[0]), -1, columns)
    recurrent = take(take(recurrent, -2, keep), -1, columns)
    return [kernel, recurrent, *(take(b, -1, columns) for b in bias)]


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
    own = {key: changes[key] for key in ("name", "dtype") if key in changes}
    inside = {k: v for k, v in changes.items() if k not in ("name", "layer", "backward_layer")}
    forward, backward = (
        copy_operation(layer, inside)
        for layer in (operation.forward_layer, operation.backward_layer)
    )
    config = {**operation.get_config(), **own}
    for key in ("layer", "backward_layer"):
        config.pop(key, None)
    return type(operation)(forward, backward_layer=backward, **config)


# --- costs ---------------------------------------------------------------------------------------


@register_all(macs, *RECURRENT)
def _recurrent_macs(layer, call):
    """Each gate of a unit reads the input and the units, at each step and position of the state."""
    cell = cell_of(layer)
    units = call.inside.get("units", whole_axis(cell.units))
    # The state is as large as an output without time.
    without = (cell.axis(call.output_shape), *((1,) if layer.return_sequences else ()))
    positions, time = positions_of(call.output_shape, *without), call.input.shape[1]
    steps = None if None in (time, positions) else time * positions
    inputs = labels_along(call.input, cell.axis(call.input.shape))
    each = times(steps, cell.gates, cell.taps)
    return [Term(each, (inputs, units)), Term(each, (units, units))]


@macs.register
def _bidirectional_macs(layer: layers.Bidirectional, call):
    found = []
    for direction in (layer.forward_layer, layer.backward_layer):
        parts = rule_of(macs, direction)(direction, call)
        found += parts if isinstance(parts, list) else [parts]
    return found


@macs.register
def _cell_macs(layer: layers.RNN, call):
    """Any cell: what one step multiplies, at each step."""
    batch, steps, *features = call.input.shape
    states = keras.tree.map_structure(
        lambda state: keras.KerasTensor((batch, *state.shape[1:]), state.dtype),
        layer.get_initial_state(batch_size=1),
    )
    step = keras.KerasTensor((batch, *features), call.tensors[0][0].dtype)
    parts = parts_inside(layer.cell, *look_inside(layer.cell, (step, states), {}))
    return [
        Term(times(steps, part.coefficient), ()) if isinstance(part, Term) else part
        for part in parts
    ]


# --- the weights of a unit -----------------------------------------------------------------------


@register_all(producing_weights, *RECURRENT)
def _recurrent_weights(layer, inside=None):
    """All gates of a unit, what it reads and what it remembers."""
    kernels = [layer.cell.kernel, layer.cell.recurrent_kernel]
    rows = [ops.convert_to_numpy(kernel).reshape(-1, kernel.shape[-1]) for kernel in kernels]
    stacked = np.concatenate(rows)
    return stacked.reshape(-1, stacked.shape[-1] // cell_of(layer).gates)


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
