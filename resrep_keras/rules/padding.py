"""Padding by `ops.pad`: borders, new channels, and values that no maximum takes."""

import numpy as np

from resrep_keras.graph.flow import changes_settings, flow
from resrep_keras.graph.labels import State
from resrep_keras.keras_adapter import operation_class
from resrep_keras.rules.arrays import as_array
from resrep_keras.surgery.narrow import narrow

PAD = operation_class("pad")


def _pairs(operation, rank):
    """How many entries come before and behind, for each axis."""
    pairs = [tuple(pair) for pair in operation.pad_width]
    return pairs * rank if len(pairs) == 1 else pairs


def _padding_value(call):
    value = call.argument("constant_values", 1)
    return 0.0 if value is None else float(as_array(value))


@flow.register(PAD)
@changes_settings
def _pad_flow(operation, call):
    """New channels at the ends are as free to go as those that they meet."""
    pairs = _pairs(operation, len(call.input.shape))
    padded = [axis for axis, pair in enumerate(pairs) if any(pair)]
    flow_in, constant = call.input, operation.mode == "constant"
    if 0 in padded:
        return call.pin_all("a padding of the examples")
    for axis in flow_in.wide_axes:
        if axis in padded and not constant:
            return call.pin_all("a padding of the channel axis by other channels")
        if axis in padded:
            flow_in = _with_new_channels(call, flow_in, axis, pairs[axis])
    if not constant or not set(padded) - set(flow_in.wide_axes):
        return flow_in.replace(shape=call.output_shape)
    return padded_with(call, flow_in, _padding_value(call))


def padded_with(call, flow_in, value):
    """The flow with a border of one value."""
    out = call.uneven(flow_in)
    if value == 0:
        return out
    state = np.maximum(out.state, State.FIXED).astype(np.int8)
    return out.replace(state=state, origins=out.origins | {call.index})


def _with_new_channels(call, flow_in, axis, pair):
    flow_in = flow_in.expanded([axis])
    state = State.CONSTANT if _padding_value(call) else State.ZERO
    parts = []
    for count in pair:
        shape = list(flow_in.labels.shape)
        shape[axis] = count
        parts.append((call.fresh(shape), np.full(shape, state, np.int8)))
    (before, first), (behind, last) = parts
    return flow_in.replace(
        labels=np.concatenate([before, flow_in.labels, behind], axis),
        state=np.concatenate([first, flow_in.state, last], axis),
    )


@narrow.register(PAD)
def _pad_narrow(operation, part):
    rank = len(part.call.input.shape)
    flow_out = part.call.outputs[0]
    pairs, axis = _pairs(operation, rank), flow_out.channel_axis
    if not flow_out.wide_axes or axis is None or not any(pairs[axis]):
        return {}, []
    before, behind = pairs[axis]
    keep = part.keep_out.mask
    pairs[axis] = int(keep[:before].sum()), int(keep[len(keep) - behind :].sum())
    return {"pad_width": tuple(pairs)}, []


# --- before a maximum ----------------------------------------------------------------------------


def behind_maximum(call, sizes, channel_axis):
    """The flow behind maxima over windows of these sizes; they may not take what is padded."""
    axes = [axis for axis in range(1, len(call.input.shape)) if axis != channel_axis]
    sizes = np.broadcast_to(sizes, len(axes))
    flow_in = call.input.replace(state=_state_before(call, sizes, axes))
    return call.vector(flow_in, channel_axis).replace(shape=call.output_shape)


def _state_before(call, sizes, axes):
    """What removed channels hold in front of a padding that no window takes."""
    maker = call.maker(0)
    if maker is None or not isinstance(maker.operation, PAD):
        return call.input.state
    pairs = dict(enumerate(_pairs(maker.operation, len(call.input.shape))))
    real = all(max(pairs.pop(axis)) < size for axis, size in zip(axes, sizes))
    if not real or any(map(any, pairs.values())) or maker.operation.mode != "constant":
        return call.input.state
    zero = (maker.input.state == State.ZERO).all() and _padding_value(maker) <= 0
    return maker.input.state if zero or _padding_value(maker) == -np.inf else call.input.state
