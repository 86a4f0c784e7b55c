"""Fold compactors into the layers before them."""

import functools

import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated, gate_factors
from resrep_keras.surgery.narrow import Part, batch_norm_weights, narrow, weight_values
from resrep_keras.surgery.rebuild import rebuild


def compactor_columns(compactor, dead):
    """The kernel as a float64 matrix or vector, with the columns of `dead` channels zero."""
    kernel = np.asarray(ops.convert_to_numpy(compactor.kernel), np.float64)
    kernel = kernel.reshape(kernel.shape[-1:] if compactor.diagonal else kernel.shape[-2:])
    return np.where(dead, 0.0, kernel)


def dead_columns(graph, kept):
    """``{compactor name: bool (channels,)}``: the columns of channels that are not kept."""
    found = {}
    for call in graph.calls:
        if isinstance(call.operation, Compactor):
            axis = call.operation.axis % len(call.input.shape)
            labels = call.input.expanded([axis]).labels.ravel()
            found[call.name] = ~graph.kept_labels(labels, kept)
        elif isinstance(call.operation, Gated):
            for name, gate in call.operation.gates.items():
                found[gate.name] = ~graph.kept_labels(call.inside[name], kept)
    return found


def fold(graph, kept=None):
    """Fold each compactor into the layer that makes its channels.

    With the kernel `W` and bias `b` of a convolution, the scale `s = gamma / sqrt(variance + eps)`
    of its batch normalisation and the compactor `Q`, in float64:

    ```
    W' = W * s @ Q        b' = ((b - mean) * s + beta) @ Q
    ```

    A diagonal `Q` behind a batch normalisation becomes part of that one's scale and offset.

    Args:
        graph: `ChannelGraph` of a model with compactors.
        kept: Bool, one for each channel id; the columns of others are taken as zero. Defaults to
            all.

    Returns:
        A Functional model of the same widths, without compactors.
    """
    dead = dead_columns(graph, np.ones(graph.num_channels, bool) if kept is None else kept)
    graph = _fold_gates(graph, dead)
    change, drop = {}, set()
    for call in graph.calls:
        compactor = call.operation
        if not isinstance(compactor, Compactor) or call.name in drop:
            continue
        drop.add(call.name)
        matrix = compactor_columns(compactor, dead[call.name])
        source = graph.makers[call.input_ids[0]]
        shift = None
        if isinstance(source.operation, layers.BatchNormalization) and not compactor.diagonal:
            scale, offset, mean, variance = batch_norm_weights(source.operation)
            scale = scale / np.sqrt(variance + source.operation.epsilon)
            shift = (offset - mean * scale) @ matrix
            matrix = scale[:, None] * matrix
            drop.add(source.name)
            source = graph.makers[source.input_ids[0]]
        everything = tuple(all_channels(source, flow) for flow in source.inputs)
        part = Part(everything, matrix, shift=shift, call=source)
        change[source.name] = functools.partial(_folded, source, part, compactor.activation)
    return rebuild(graph.recording, change, drop=drop)


def _fold_gates(graph, dead):
    """Multiply gates into the weights of the layers that they scale."""
    calls = [call for call in graph.calls if isinstance(call.operation, Gated)]
    if not calls:
        return graph
    model = rebuild(
        graph.recording,
        {c.name: functools.partial(_gated_weights, c.operation, dead) for c in calls},
        source={call.name: call.operation.layer for call in calls},
    )
    return trace(model)


def _folded(call, part, activation):
    """Settings and weights of a layer that takes up a compactor, its activation included."""
    config, weights = rule_of(narrow, call.operation)(call.operation, part)
    if call.activates:
        config["activation"] = activation
    return config, weights


def _gated_weights(gated, dead):
    gates = {
        name: ops.convert_to_tensor(compactor_columns(gate, dead[gate.name]), "float32")
        for name, gate in gated.gates.items()
    }
    factors = rule_of(gate_factors, gated.layer)(gated.layer, gates)
    return {}, [
        value if factor is None else value * np.asarray(ops.convert_to_numpy(factor), np.float64)
        for value, factor in zip(weight_values(gated.layer), factors)
    ]


def all_channels(call, flow):
    axis = -1 if call.axis_in is None else call.axis_in
    size = flow.shape[axis] if axis < len(flow.shape) else None
    return np.ones(1 if size is None else size, bool)
