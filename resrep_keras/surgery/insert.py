"""Put compactors into a model, and find them again."""

import keras

from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.surgery.rebuild import rebuild


def insert_compactors(graph, sites, diagonal, make=Compactor):
    """Copy a model with an identity compactor at each site.

    Args:
        graph: The `ChannelGraph` of the model.
        sites: Some of its `Site`s.
        diagonal: Names of sites where channels are scaled instead of mixed; gates always are.
        make: What makes a compactor from the settings of `Compactor`.

    Returns:
        A Functional model. The `activation` of a layer before a compactor moves into it.
    """
    change, behind, gates = {}, {}, {}
    for site in sites:
        call = graph.calls_by_name[site.layer]
        if site.inside is not None:
            gates.setdefault(site.layer, {})[site.inside] = len(site.channels)
            continue
        if call.activation is not None:
            change[site.layer] = lambda: ({"activation": None}, None)
        behind[site.layer] = make(
            diagonal=site.diagonal or site.name in diagonal,
            axis=site.axis,
            activation=call.activation,
            dtype=call.operation.dtype_policy,
            name=f"{site.layer}_compactor",
        )
    around = {
        name: _gate(graph.calls_by_name[name].operation, name, inside)
        for name, inside in gates.items()
    }
    return rebuild(graph.recording, change, behind, around=around)


def _gate(original, name, channels):
    """What puts the copy of a layer between gates."""

    def make(copy):
        copy.build_from_config(original.get_build_config())
        return Gated(copy, channels, name=name)

    return make


def compactors_by_site(recording):
    """``{site name: compactor}`` of a model with compactors and gates.

    Args:
        recording: The `Recording` of the model.
    """
    steps = list(recording.all_steps())
    makers = {id(t): step.name for step in steps for t in keras.tree.flatten(step.outputs)}
    found = {}
    for step in steps:
        if isinstance(step.operation, Compactor):
            found[makers[id(keras.tree.flatten(step.args)[0])]] = step.operation
        elif isinstance(step.operation, Gated):
            for name, gate in step.operation.gates.items():
                found[f"{step.name}.{name}"] = gate
    return found
