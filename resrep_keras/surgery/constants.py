"""The constants that removed channels hold where weights read them."""

import numpy as np
from keras import layers, ops

from resrep_keras.graph.labels import State
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.forward import evaluate, fitting_inputs


def read_constants(graph, kept):
    """``{layer name: values (channels,)}`` where weights read removed channels that are not zero.

    Of sums over channels, ``{name: what removed channels add}``: an array of the output's shape.

    Removed channels are zero at their sites. What becomes of a zero on its way does not depend on
    the input, so that one example of random numbers shows it.

    Args:
        graph: A `ChannelGraph`.
        kept: Bool, one for each channel id.
    """
    readers, summed = _readers(graph, kept), _summed(graph, kept)
    if not (readers or summed):
        return {}
    values, empty, needless = {}, {}, set()
    if graph.holds == State.ZERO:
        empty = _emptied(graph, kept)
        needless = _needless(graph, kept, empty)

    def before(recorded, first):
        if recorded.name in readers:
            value = np.asarray(ops.convert_to_numpy(first), np.float64)
            axis = readers[recorded.name]
            values[recorded.name] = np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis])[0]
        elif recorded.name in summed:
            call, removed = summed[recorded.name]
            value = np.where(removed, np.asarray(ops.convert_to_numpy(first), np.float64), 0.0)
            keepdims = len(call.output_shape) == value.ndim
            values[recorded.name] = value[:1].sum(axis=call.summed, keepdims=keepdims)

    def behind(tensor, value):
        return empty[id(tensor)](value) if id(tensor) in empty else value

    def instead(recorded, first):
        if id(recorded.outputs) not in needless:
            return None
        return [ops.zeros((first.shape[0], *recorded.outputs.shape[1:]), recorded.outputs.dtype)]

    inputs = fitting_inputs(graph.recording, batch_size=1)
    evaluate(graph.recording, inputs, before, behind, instead)
    return values


def _readers(graph, kept):
    """``{layer name: axis}`` of the layers that read removed channels that are not zero."""
    readers = {}
    for call in graph.calls:
        if 0 not in call.consumed:
            continue
        flow = call.input.along(call.axis_in)
        removed = ~graph.kept_labels(flow.labels, kept)
        if (removed & (flow.state > State.ZERO)).any():
            readers[call.name] = call.axis_in
    return readers


def _summed(graph, kept):
    """``{name: (call, which channels are removed)}`` of sums over ones that are not zero."""
    found = {}
    for call in (call for call in graph.calls if call.summed):
        removed = ~graph.kept_labels(call.input.labels, kept)
        if (removed & (call.input.state > State.ZERO)).any():
            found[call.name] = call, removed
    return found


# Layers that take time, and whose outputs have the batch size of their inputs.
DEAR = (
    Compactor,
    layers.BatchNormalization,
    layers.Dense,
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
)


def _needless(graph, kept, empty):
    """Ids of the outputs of calls that need not be made: zeros do in their place.

    What is removed is zero there, or `_emptied` sees to it; what is kept does not matter to what is
    removed.
    """
    found = set()
    for call in graph.calls:
        if not isinstance(call.operation, DEAR) or None in call.output_shape[1:]:
            continue
        (flow, *across), tensor = call.outputs[0].parts, call.output_ids[0]
        parts = across if tensor in empty else (flow, *across)
        if not any(part.state[~graph.kept_labels(part.labels, kept)].any() for part in parts):
            found.add(tensor)
    return found


def _emptied(graph, kept):
    """``{id of an output: function}`` behind each site, which gives removed channels their value.

    A site is where a compactor stands or would stand. What removed channels across hold may be made
    of all that a compactor reads, so that nothing is emptied in front of it.
    """
    compacted = {x for c in graph.calls if isinstance(c.operation, Compactor) for x in c.input_ids}
    sites = {site.layer for group in graph.groups for site in group.sites}
    found = {}
    for call in graph.calls:
        if call.name not in sites and not isinstance(call.operation, Compactor):
            continue
        for tensor, flow in zip(call.output_ids, call.outputs):
            removed = ~graph.kept_labels(flow.labels, kept)
            if removed.any() and not (flow.across and tensor in compacted):
                found[tensor] = _Emptied(removed, call.activation)
    return found


class _Emptied:
    """Sets removed channels to what an activation makes of zero.

    Args:
        removed: Bool array that broadcasts against the tensor.
        activation: The function, `None` for none.
    """

    def __init__(self, removed, activation):
        self._removed, self._activation = removed, activation

    def __call__(self, value):
        zero = ops.zeros((1,) * len(value.shape), value.dtype)
        empty = zero if self._activation is None else self._activation(zero)
        return ops.where(self._removed, empty, value)
