"""Compactors and gated layers: how channels pass through them, and what is left of them."""

import numpy as np

from resrep_keras.costs.macs import labels_along, macs, product_term
from resrep_keras.graph.flow import activate, flow, register_all, rule_of, takes_several_axes
from resrep_keras.graph.labels import State
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.layers.scored import ScoredCompactor
from resrep_keras.surgery.channel_weights import producing_variable, producing_weights
from resrep_keras.surgery.constraints import without_broken
from resrep_keras.surgery.narrow import Part, narrow, take, weight_values
from resrep_keras.surgery.outputs import Selected
from resrep_keras.surgery.rebuild import copy_operation

# What a ScoredCompactor holds besides is of no interest to what is computed.
COMPACTORS = (Compactor, ScoredCompactor)

# --- Compactor -----------------------------------------------------------------------------------


@register_all(flow, *COMPACTORS)
def _compactor_flow(layer, call):
    """A removed channel is zero behind its compactor, whatever came before."""
    axis = layer.axis % len(call.input.shape)
    beside = call.beside(call.input, axis)
    if beside:
        call.axis_in = axis
    flow_in = call.input.along(axis) if beside else call.vector(call.input, axis)
    zero = np.full_like(flow_in.state, State.ZERO)
    out = flow_in.replace(state=zero, origins=frozenset()).crossed_by(call.mixed(beside, False))
    return activate(call, out, layer.activation)


@register_all(takes_several_axes, *COMPACTORS)
def _compactor_crosses(layer):
    return True


@register_all(narrow, *COMPACTORS)
def _compactor_narrow(layer, part):
    keep = part.keep_out.mask
    kernel, mask = weight_values(layer)
    for axis in (-1,) if layer.diagonal else (-2, -1):
        kernel = take(kernel, axis, keep)
    return {}, [kernel, take(mask, 0, keep).astype(bool)]


@register_all(macs, *COMPACTORS)
def _compactor_macs(layer, call):
    axis = layer.axis % len(call.input.shape)
    labels = labels_along(call.input, axis)
    factors = (labels,) if layer.diagonal else (labels, labels)
    return product_term(call.output_shape, axis, factors, call.outputs[0])


# --- Gated ---------------------------------------------------------------------------------------


@flow.register
def _gated_flow(layer: Gated, call):
    return rule_of(flow, layer.layer)(layer.layer, call)


@narrow.register
def _gated_narrow(gated: Gated, part):
    """The layer inside, and the gates of its channels."""
    changes, weights = rule_of(narrow, gated.layer)(gated.layer, part)
    layer = copy_operation(gated.layer, without_broken(gated.layer, changes, weights))
    keeps = {
        name: part.inside.get(name, np.ones(gate.kernel.shape[0], bool))
        for name, gate in gated.gates.items()
    }
    for name, gate in gated.gates.items():
        weights = [*weights, *_compactor_narrow(gate, Part((), Selected(keeps[name])))[1]]
    config = {
        "layer": layer,
        "gates": {name: int(keep.sum()) for name, keep in keeps.items()},
    }
    return config, weights


@macs.register
def _gated_macs(layer: Gated, call):
    return rule_of(macs, layer.layer)(layer.layer, call)


@producing_variable.register
def _gated_variable(layer: Gated, inside=None):
    return rule_of(producing_variable, layer.layer)(layer.layer, inside)


@producing_weights.register
def _gated_weights(layer: Gated, inside=None):
    return rule_of(producing_weights, layer.layer)(layer.layer, inside)
