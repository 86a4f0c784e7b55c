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
    calls = list(recording.all_calls())
    makers = {
        id(t): recorded.name for recorded in calls for t in keras.tree.flatten(recorded.outputs)
    }
    found = {}
    for recorded in calls:
        if isinstance(recorded.operation, Compactor):
            found[makers[id(keras.tree.flatten(recorded.args)[0])]] = recorded.operation
        elif isinstance(recorded.operation, Gated):
            for name, gate in recorded.operation.gates.items():
                found[f"{recorded.name}.{name}"] = gate
    return found
