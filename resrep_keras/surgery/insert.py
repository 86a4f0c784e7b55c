"""Put compactors into a model, and find them again."""

import functools

import keras

from resrep_keras.graph.flow import activity_regularizer_of
from resrep_keras.graph.record import inner_layer
from resrep_keras.graph.recording import free_name
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
        A Functional model. The `activation` of a layer before a compactor moves into it, and its
        `activity_regularizer`, which sees what the activation makes.
    """
    change, behind, gates = {}, {}, {}
    taken = graph.recording.names()
    without_effect = _without_effect(graph.recording)
    for site in sites:
        call = graph.calls_by_name[site.layer]
        if site.inside is not None:
            gates.setdefault(site.layer, {})[site.inside] = len(site.channels)
            continue
        moves = _tail(call)
        if moves:
            change[site.layer] = functools.partial(_without, tuple(moves))
        if site.layer in without_effect:
            moves.pop("activity_regularizer", None)
        behind[site.layer] = make(
            diagonal=site.diagonal or site.name in diagonal,
            axis=site.axis,
            dtype=call.operation.dtype_policy,
            name=free_name(f"{site.layer}_compactor", taken),
            **moves,
        )
        taken.add(behind[site.layer].name)
    around = {
        name: _gate(graph.calls_by_name[name].operation, name, inside)
        for name, inside in gates.items()
    }
    return rebuild(graph.recording, change, behind, around=around, checked=True)


def _tail(call):
    """What a layer does last, by the names of its settings."""
    tail = {
        "activation": call.activation,
        "activity_regularizer": activity_regularizer_of(call.operation),
    }
    return {name: value for name, value in tail.items() if value is not None}


def _without(names):
    return dict.fromkeys(names), None


def _without_effect(recording):
    """Names of the layers whose `activity_regularizer` is never asked.

    `TimeDistributed` runs the `call` of its layer, and so passes by what Keras does around it; in
    the model that a layer and its compactor need there, it would be asked.
    """
    return {
        recorded.inner.calls[0].name
        for recorded in recording.all_calls()
        if recorded.inner is not None
        and recorded.inner.calls
        and recorded.inner.calls[0].operation is inner_layer(recorded.operation)
    }


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
