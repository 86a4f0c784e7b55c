"""Remove the channels whose weights are all zero, where that changes no output."""

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.flow import flow, rule_of
from resrep_keras.graph.trace import read, trace
from resrep_keras.surgery.channel_weights import producing_weights
from resrep_keras.surgery.fold import activation_of
from resrep_keras.surgery.forward import evaluate, example_inputs
from resrep_keras.surgery.rebuild import rebuild
from resrep_keras.surgery.remove import narrow_dead


class _Constant(keras.layers.Layer):
    """Stands where channels of zero weights are constants; it hands its input through.

    To the trace such channels are zero in front of it and constant behind it, so that it pins those
    that cannot be folded into the bias of what reads them.
    """

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.activation = keras.activations.get(activation)

    def call(self, inputs):
        return self.activation(inputs)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "activation": activation}


@flow.register
def _(layer: _Constant, call):
    return call.constant(call.input.replace(shape=call.output_shape))


def remove_zero_channels(model):
    """Remove each channel that all its producers make with weights that are zero.

    Such a channel holds the producer's bias, or what batch normalisation makes of it. Where that is
    zero the channel goes as any dead channel does; where it is another constant, it is folded into
    the bias of the layers that read it, if that is exact. A channel stays where it is not, behind a
    zero-padded convolution, say, and where its layer would lose its last one.

    Args:
        model: A built Keras model without compactors.

    Returns:
        A Functional model of the same layer names, `model` itself where nothing goes.
    """
    return _remove(_remove(model, folds=False), folds=True)


def _remove(model, folds):
    graph = trace(model)
    operations = {step.name: step.operation for step in read(model).all_steps()}
    zero = np.zeros(graph.num_channels, bool)
    groups = []
    for group in graph.groups:
        found = _zero_channels(group, operations)
        if found is not None and found.any():
            zero[group.channels] = found[group.channels]
            groups.append(group)
    sites = {site.layer: site for group in groups for site in group.sites}
    if not sites:
        return model
    marked = _mark(model, sites, operations)
    for site, zeros, constants in _read(marked, sites):
        known = site.channels >= 0
        zero[site.channels[known]] &= (constants if folds else zeros)[known]
    slim = _without(marked if folds else model, graph, zero, sites)
    if slim is None:
        return model
    if not folds:
        return slim
    back = {
        name: _setting(activation_of(operations[name]))
        for name, site in sites.items()
        if site.activates
    }
    return rebuild(slim, back, drop={_marker(name) for name in sites})


def _zero_channels(group, operations):
    """Bool `(channel ids,)`: all weights are zero; `None` where a producer is of another kind."""
    if not group.prunable or any(site.inside is not None for site in group.sites):
        return None
    zero = np.ones(max(group.channels) + 1, bool)
    for producer in group.producers:
        if producer.follows:
            continue
        layer = operations[producer.layer]
        weights = rule_of(producing_weights, layer)(layer, producer.inside)
        if weights is None or weights.shape[-1] != len(producer.channels):
            return None
        zero[producer.channels] &= ~weights.reshape(-1, weights.shape[-1]).any(axis=0)
    return zero


def _mark(model, sites, operations):
    """Put a `_Constant` behind each site; it takes over the activation of the layer there."""
    change, behind = {}, {}
    for name, site in sites.items():
        activation = activation_of(operations[name]) if site.activates else None
        if activation is not None:
            change[name] = _setting(None)
        behind[name] = _Constant(
            activation, dtype=operations[name].dtype_policy, name=_marker(name)
        )
    return rebuild(model, change, behind)


def _marker(layer):
    return f"{layer}_constant"


def _setting(activation):
    return lambda: ({"activation": activation}, None)


def _read(marked, sites):
    """For each site, which channels are zero and which one constant, on random inputs."""
    by_marker = {_marker(name): site for name, site in sites.items()}
    found = []

    def visit(step, first):
        site = by_marker.get(step.name)
        if site is not None:
            values = np.moveaxis(ops.convert_to_numpy(first), site.axis, -1)
            values = values.reshape(-1, values.shape[-1])
            found.append((site, ~values.any(axis=0), (values == values[0]).all(axis=0)))

    evaluate(read(marked), example_inputs(marked), visit)
    return found


def _without(model, before, zero, sites):
    """Remove channels that the trace of `model` lets go, `None` if there are none.

    Args:
        model: The model, maybe with markers.
        before: The `ChannelGraph` without them, by whose ids `zero` is indexed.
        zero: Bool `(channel ids,)`.
        sites: Where channels were found to be constant. Another one would need a gate, which the
            model does not have.
    """
    wanted = {p.name: zero[p.channels] for group in before.groups for p in group.producers}
    graph = trace(model)
    gone = np.zeros(graph.num_channels, bool)
    for group in graph.groups:
        for producer in group.producers:
            gone[producer.channels] |= wanted[producer.name]
        if not group.prunable or any(site.layer not in sites for site in group.sites):
            gone[group.channels] = False
        gone[group.channels[group.pinned]] = False
        for producer in group.producers:
            if gone[producer.channels].all():
                gone[producer.channels[0]] = False
    keep = graph.keep_by_producer(~gone)
    return narrow_dead(model, keep) if keep else None
