"""remove_channels(model, keep): the smaller model."""

import keras
import numpy as np

from resrep_keras.graph.channels import State
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.fold import fold, insert_compactors
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.surgery.narrow import Part, narrow
from resrep_keras.surgery.rebuild import rebuild


def remove_channels(model, keep):
    """Remove channels, as if they were zero where a compactor would stand.

    The outputs are those of the model whose removed channels are zero behind their producers
    (and batch normalisation). What such zeros become on their way, a constant behind a later batch
    normalisation say, is folded into the bias of the layer that reads it.

    Args:
        model: Functional or Sequential model.
        keep: ``{layer name: bool (channels,)}``, `True` = kept; layers that are left out keep all.

    Returns:
        A Functional model of the same layer names.

    Raises:
        ValueError: A mask is of the wrong shape, removes pinned channels or a whole layer.

    Example:

    >>> keep = np.arange(64) < 32
    >>> slim = remove_channels(keras.applications.VGG16(weights=None), {"block1_conv1": keep})
    """
    graph = trace(model)
    kept = graph.keep_array(keep)
    sites = {
        site.layer: site
        for group in graph.groups
        if not kept[group.channels].all()
        for site in group.sites
    }
    masked = insert_compactors(model, sites.values(), diagonal=set(sites))
    dead = {f"{name}_compactor": _dead(site.channels, kept) for name, site in sites.items()}
    return narrow_dead(fold(masked, dead), keep)


def _dead(channels, kept):
    return np.where(channels < 0, False, ~kept[np.maximum(channels, 0)])


def narrow_dead(model, keep):
    """Remove channels that are zero at their sites already; see `remove_channels`."""
    graph = trace(model)
    kept = graph.keep_array(keep)
    constants = _read_constants(model, graph, kept)
    change = {}
    for call in graph.calls:
        keeps_in = tuple(_keep_vector(graph, flow, call.axis_in, kept) for flow in call.inputs)
        keep_out = _keep_vector(graph, call.outputs[0], call.axis_out, kept)
        touched = not (keep_out.all() and all(keep.all() for keep in keeps_in))
        holds_channels = getattr(call.operation, "weights", ()) or _has_rule(call.operation)
        if call.name in change or not touched or not holds_channels:
            continue
        axis = call.outputs[0].channel_axis
        part = Part(
            keep_in=keeps_in,
            keep_out=keep_out,
            constants=constants.get(call.name),
            output_shape=_with(call.output_shape, axis, int(keep_out.sum())),
            axis=axis,
        )
        rule = rule_of(narrow, call.operation)
        change[call.name] = rule(call.operation, part)
    return rebuild(model, change)


def _has_rule(operation):
    return rule_of(narrow, operation) is not narrow.registry[object]


def _keep_vector(graph, flow, axis, kept):
    """Which entries of the channel axis are kept; found from the labels where no layer says."""
    axis = flow.channel_axis if axis is None else axis
    labels = flow.labels
    if axis and flow.shape[axis] is not None:
        labels = flow.expanded([axis]).labels
    return graph.kept_labels(labels, kept).ravel()


def _with(shape, axis, size):
    return (*shape[:axis], size, *shape[axis + 1 :])


def _read_constants(model, graph, kept):
    """``{layer name: values (channels,)}`` where weights read removed channels that are not zero.

    Their values do not depend on the input, so one forward pass on any input shows them.
    """
    readers = {}
    for call in graph.calls:
        if not call.consumes:
            continue
        flow = call.input.expanded([call.axis_in])
        removed = ~graph.kept_labels(flow.labels, kept)
        if (removed & (flow.state > State.ZERO)).any():
            readers[call.name] = call.axis_in
    if not readers:
        return {}
    layers = {layer.name: layer for layer in model.layers}
    probe = keras.Model(model.inputs, {name: layers[name].input for name in readers})
    values = run(probe, keras.tree.flatten(example_inputs(model, batch_size=1)))
    return {
        name: np.moveaxis(value, readers[name], -1).reshape(-1, value.shape[readers[name]])[0]
        for name, value in values.items()
    }
