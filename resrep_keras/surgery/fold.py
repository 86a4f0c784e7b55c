"""Put compactors into a model, and fold them into the layers before them."""

import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.narrow import Part, batch_norm_weights, narrow
from resrep_keras.surgery.rebuild import rebuild


def insert_compactors(model, sites, diagonal):
    """Copy a model with an identity compactor at each site.

    Args:
        model: Functional or Sequential model.
        sites: The `Site`s of its graph.
        diagonal: Names of sites where channels are scaled instead of mixed; gates always are.

    Returns:
        A Functional model. The `activation` of a layer before a compactor moves into it.
    """
    by_name = {layer.name: layer for layer in model.layers}
    change, behind = {}, {}
    for site in sites:
        layer = by_name[site.layer]
        activation = getattr(layer, "activation", None)
        if activation is not None:
            change[site.layer] = ({"activation": None}, None)
        behind[site.layer] = Compactor(
            diagonal=site.gate or site.layer in diagonal,
            axis=site.axis,
            activation=activation,
            dtype=layer.dtype_policy,
            name=f"{site.layer}_compactor",
        )
    return rebuild(model, change, behind)


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
        everything = tuple(
            np.ones(flow.expanded([a]).labels.size, bool) for flow, a in _axes(source)
        )
        rule = rule_of(narrow, source.operation)
        config, weights = rule(source.operation, Part(everything, matrix, shift=shift))
        if compactor.activation is not None and hasattr(source.operation, "activation"):
            config["activation"] = compactor.activation
        change[source.name] = (config, weights)
    return rebuild(model, change, drop=drop)


def _axes(call):
    return [(flow, -1 if call.axis_in is None else call.axis_in) for flow in call.inputs]
