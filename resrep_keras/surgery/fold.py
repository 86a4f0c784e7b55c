"""Put compactors into a model, and fold them into the layers before them."""

import functools

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import read, trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated, gate_factors
from resrep_keras.surgery.narrow import Part, batch_norm_weights, narrow, weight_values
from resrep_keras.surgery.rebuild import rebuild


def insert_compactors(model, sites, diagonal, make=Compactor):
    """Copy a model with an identity compactor at each site.

    Args:
        model: A built Keras model.
        sites: The `Site`s of its graph.
        diagonal: Names of sites where channels are scaled instead of mixed; gates always are.
        make: What makes a compactor from the settings of `Compactor`.

    Returns:
        A Functional model. The `activation` of a layer before a compactor moves into it.
    """
    by_name = {step.name: step.operation for step in read(model).all_steps()}
    change, behind, gates = {}, {}, {}
    for site in sites:
        layer = by_name[site.layer]
        if site.inside is not None:
            gates.setdefault(site.layer, {})[site.inside] = len(site.channels)
            continue
        activation = activation_of(layer) if site.activates else None
        if activation is not None:
            change[site.layer] = lambda: ({"activation": None}, None)
        behind[site.layer] = make(
            diagonal=site.gate or site.name in diagonal,
            axis=site.axis,
            activation=activation,
            dtype=layer.dtype_policy,
            name=f"{site.layer}_compactor",
        )
    around = {name: _gate(by_name[name], name, inside) for name, inside in gates.items()}
    return rebuild(model, change, behind, around=around)


def activation_of(layer):
    """The function that a layer applies last, also where another layer wraps it."""
    return getattr(getattr(layer, "layer", layer), "activation", None)


def _gate(original, name, channels):
    """What puts the copy of a layer between gates."""

    def make(copy):
        copy.build_from_config(original.get_build_config())
        return Gated(copy, channels, name=name)

    return make


def compactors_by_site(model):
    """``{site name: compactor}`` of a model with compactors and gates."""
    steps = list(read(model).all_steps())
    makers = {id(t): step.name for step in steps for t in keras.tree.flatten(step.outputs)}
    found = {}
    for step in steps:
        if isinstance(step.operation, Compactor):
            found[makers[id(keras.tree.flatten(step.args)[0])]] = step.operation
        elif isinstance(step.operation, Gated):
            for name, gate in step.operation.gates.items():
                found[f"{step.name}.{name}"] = gate
    return found


def compactor_columns(compactor, dead):
    """The kernel as a float64 matrix or vector, with the columns of `dead` channels zero."""
    kernel = np.asarray(ops.convert_to_numpy(compactor.kernel), np.float64)
    kernel = kernel.reshape(kernel.shape[-1:] if compactor.diagonal else kernel.shape[-2:])
    return np.where(dead, 0.0, kernel)


def fold(model, dead):
    """Fold each compactor into the layer that makes its channels.

    With the kernel `W` and bias `b` of a convolution, the scale `s = gamma / sqrt(variance + eps)`
    of its batch normalisation and the compactor `Q`, in float64:

    ```
    W' = W * s @ Q        b' = ((b - mean) * s + beta) @ Q
    ```

    A diagonal `Q` behind a batch normalisation becomes part of that one's scale and offset.

    Args:
        model: A model with compactors.
        dead: ``{compactor name: bool (channels,)}``; these columns are taken as zero.

    Returns:
        A Functional model of the same widths, without compactors.
    """
    model = _fold_gates(model, dead)
    graph = trace(model)
    maker = {tensor: call for call in graph.calls for tensor in call.output_ids}
    change, drop = {}, set()
    for call in graph.calls:
        compactor = call.operation
        if not isinstance(compactor, Compactor) or call.name in drop:
            continue
        drop.add(call.name)
        matrix = compactor_columns(compactor, dead[call.name])
        source = maker[call.input_ids[0]]
        shift = None
        if isinstance(source.operation, layers.BatchNormalization) and not compactor.diagonal:
            scale, offset, mean, variance = batch_norm_weights(source.operation)
            scale = scale / np.sqrt(variance + source.operation.epsilon)
            shift = (offset - mean * scale) @ matrix
            matrix = scale[:, None] * matrix
            drop.add(source.name)
            source = maker[source.input_ids[0]]
        everything = tuple(all_channels(source, flow) for flow in source.inputs)
        part = Part(everything, matrix, shift=shift, call=source)
        change[source.name] = functools.partial(
            _folded, source.operation, part, compactor.activation
        )
    return rebuild(model, change, drop=drop)


def _fold_gates(model, dead):
    """Multiply gates into the weights of the layers that they scale."""
    steps = [step for step in read(model).all_steps() if isinstance(step.operation, Gated)]
    if not steps:
        return model
    return rebuild(
        model,
        {s.name: functools.partial(_gated_weights, s.operation, dead) for s in steps},
        source={step.name: step.operation.layer for step in steps},
    )


def _folded(layer, part, activation):
    """Settings and weights of a layer that takes up a compactor, its activation included."""
    config, weights = rule_of(narrow, layer)(layer, part)
    if activation is not None and hasattr(getattr(layer, "layer", layer), "activation"):
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
