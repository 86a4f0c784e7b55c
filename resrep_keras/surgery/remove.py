"""remove_channels(model, keep): the smaller model."""

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.channels import State
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.graph.walk import inputs_of
from resrep_keras.surgery.fold import fold, insert_compactors
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
        keeps_in = tuple(_keep_vector(graph, flow, kept) for flow in call.inputs)
        keep_out = _keep_vector(graph, call.outputs[0], kept)
        touched = not (keep_out.all() and all(k.all() for k in keeps_in))
        holds_channels = getattr(call.operation, "weights", ()) or _has_rule(call.operation)
        if call.name in change or not touched or not holds_channels:
            continue
        part = Part(
            keep_in=keeps_in,
            keep_out=keep_out,
            constants=constants.get(call.name),
            output_shape=_narrow_shape(graph, call.outputs[0], kept),
            axis=call.outputs[0].channel_axis,
        )
        rule = rule_of(narrow, call.operation)
        change[call.name] = rule(call.operation, part)
    return rebuild(model, change)


def _has_rule(operation):
    return rule_of(narrow, operation) is not narrow.registry[object]


def _keep_vector(graph, flow, kept):
    axis = flow.channel_axis
    labels = flow.expanded([axis]).labels if axis and flow.shape[axis] else flow.labels
    return graph.kept_labels(labels, kept).ravel()


def _narrow_shape(graph, flow, kept):
    shape = list(flow.shape)
    axis = flow.channel_axis
    if axis and shape[axis]:
        shape[axis] = int(_keep_vector(graph, flow, kept).sum())
    return tuple(shape)


def _read_constants(model, graph, kept):
    """``{layer name: values (channels,)}`` where weights read removed channels that are not zero.

    Their values do not depend on the input, so one forward pass on any input shows them.
    """
    readers = {}
    for call in graph.calls:
        if call.consumed is None:
            continue
        flow = call.input.expanded([call.consumed])
        removed = ~graph.kept_labels(flow.labels, kept)
        if (removed & (flow.state > State.ZERO)).any():
            readers[call.name] = call.consumed
    if not readers:
        return {}
    layers = {layer.name: layer for layer in model.layers}
    probe = keras.Model(model.inputs, {name: layers[name].input for name in readers})
    values = probe(keras.tree.flatten(example_inputs(model, batch_size=1)), training=False)
    return {
        name: np.moveaxis(
            np.asarray(ops.convert_to_numpy(value), np.float64), readers[name], -1
        ).reshape(-1, value.shape[readers[name]])[0]
        for name, value in values.items()
    }


def example_inputs(model, batch_size=2, seed=0, size=64):
    """Random inputs in the structure of `model.input`; unknown sizes become `size`."""
    generator = np.random.default_rng(seed)

    def draw(tensor):
        shape = (batch_size, *(size if n is None else n for n in tensor.shape[1:]))
        if "int" in tensor.dtype or tensor.dtype == "bool":
            return ops.convert_to_tensor(generator.integers(0, 2, shape), dtype=tensor.dtype)
        return ops.convert_to_tensor(generator.normal(size=shape), dtype=tensor.dtype)

    return keras.tree.map_structure(draw, inputs_of(model))
