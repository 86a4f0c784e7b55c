"""Remove the channels whose weights are all zero, where that changes no output."""

import numpy as np
from keras import ops

from resrep_keras.graph.labels import State
from resrep_keras.graph.trace import recording_of, trace_recording
from resrep_keras.surgery.channel_weights import weights_that_make
from resrep_keras.surgery.forward import evaluate, fitting_inputs
from resrep_keras.surgery.remove import remove


def without_zero_channels(graph):
    """Remove each channel that all its producers make with weights that are zero.

    Such a channel holds what biases and batch normalisation make of zero. Where that is what a dead
    channel holds, it goes as any dead channel does; where it is another constant, it is folded into
    the bias of the layers that read it, if that is exact. A channel stays where it is not, behind a
    zero-padded convolution, say, and where its layer, or one that reads it, would lose the last.

    Args:
        graph: `ChannelGraph` of a model without compactors.

    Returns:
        A Functional model of the same layer names, `None` where nothing goes.
    """
    slim = _remove(graph)
    recording = graph.recording if slim is None else recording_of(slim)
    left = trace_recording(recording, holds=State.CONSTANT, frozen=graph.frozen)
    slimmer = _remove(left)
    return slim if slimmer is None else slimmer


def _remove(graph):
    """Remove zero channels that hold what the graph says of removed ones; `None`: nothing goes."""
    zero, sites = np.zeros(graph.num_channels, bool), {}
    for group in graph.groups:
        found = _zero_channels(graph, group)
        if found is not None and found.any():
            zero |= found
            sites.update((site.layer, site) for site in group.sites)
    if not sites:
        return None
    for site, constant in _what_stays(graph, sites):
        known = site.channels >= 0
        np.logical_and.at(zero, site.channels[known], constant[known])
    kept = graph.with_one_each(~zero)
    return None if kept.all() else remove(graph, kept)


def _zero_channels(graph, group):
    """Bool `(channel ids,)`: all weights are zero; `None` where a producer is of another kind."""
    if not group.prunable or any(site.inside is not None for site in group.sites):
        return None
    zero = np.zeros(graph.num_channels, bool)
    zero[group.channels[~group.pinned]] = True
    for producer in group.producers:
        if producer.follows:
            continue
        weights = weights_that_make(graph.calls_by_name[producer.layer], producer.inside)
        if weights is None or weights.shape[-1] != len(producer.channels):
            return None
        made = weights.reshape(-1, weights.shape[-1]).any(axis=0)
        np.logical_and.at(zero, producer.channels, ~made)  # several may be one channel
    return zero


def _what_stays(graph, sites):
    """For each site, which channels hold zero behind it or, as the graph says, one constant."""
    by_output = {call.output_ids[0]: sites[call.name] for call in graph.calls if call.name in sites}
    found = []

    def behind(tensor, value):
        site = by_output.get(id(tensor))
        if site is not None:
            rows = np.moveaxis(ops.convert_to_numpy(value), site.axis, -1)
            rows = rows.reshape(-1, rows.shape[-1])
            empty = rows[0] if graph.holds else _zero(graph.calls_by_name[site.layer], value)
            found.append((site, (rows == empty).all(axis=0)))
        return value

    inputs = fitting_inputs(graph.recording)
    evaluate(graph.recording, inputs, behind=behind)
    return found


def _zero(call, value):
    """What a dead channel holds behind a call that may apply an activation."""
    zero = ops.zeros((1,) * len(value.shape), value.dtype)
    return ops.convert_to_numpy(zero if call.activation is None else call.activation(zero)).ravel()
