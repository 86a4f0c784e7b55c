"""remove_channels(model, keep): the smaller model."""

import functools

import numpy as np

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.surgery.constraints import without_broken
from resrep_keras.surgery.narrow import can_narrow, corrections, narrow
from resrep_keras.surgery.parts import parts_of
from resrep_keras.surgery.rebuild import rebuild


def remove_channels(model, keep, exact=True):
    """Remove channels, as if they were zero where a compactor would stand.

    The outputs are those of the model whose removed channels are zero behind their producers
    (and batch normalisation). What such zeros become on their way, a constant behind a later batch
    normalisation say, is folded into the bias of the layer that reads it.

    Args:
        model: A built Keras model.
        keep: ``{layer name: bool (channels,)}``, `True` = kept; layers that are left out keep all.
        exact: See `trace`. Defaults to `True`.

    Returns:
        A Functional model of the same layer names.

    Raises:
        ValueError: A mask is of the wrong shape, removes pinned channels or a whole layer.

    Example:

    >>> keep = np.arange(64) < 32
    >>> slim = remove_channels(keras.applications.VGG16(weights=None), {"block1_conv1": keep})
    """
    graph = trace(model, exact=exact)
    return remove(graph, graph.keep_array(keep))


def remove(graph, kept):
    """Remove channels from a model that is traced already; compactors stay, narrower.

    Args:
        graph: The model's `ChannelGraph`.
        kept: Bool, one for each channel id.

    Returns:
        A Functional model of the same layer names.
    """
    return narrow_parts(graph.recording, parts_of(graph, kept))


def narrow_parts(recording, parts):
    """Rebuild a model with what `parts_of` leaves of its layers."""
    change = {
        name: functools.partial(_narrowed, part.call.operation, part)
        for name, part in parts.items()
    }
    return rebuild(recording, change, corrections(recording, parts, change))


def _narrowed(operation, part):
    config, weights = rule_of(narrow, operation)(operation, part)
    return (without_broken(operation, config, weights) if weights else config), weights


def check_rules(graph, groups):
    """Raise before training where a layer whose channels may go has no rule for fewer of them.

    Raises:
        ValueError: Names the layer and what to register.
    """
    free = np.zeros(graph.num_channels + 1, bool)  # the last entry stands for id -1
    for group in groups:
        free[group.channels[~group.pinned]] = True
    for call in graph.calls:
        labels = [part.labels for flow in (*call.inputs, *call.outputs) for part in flow.parts]
        touched = any(
            free[graph.channel_of[each]].any() for each in (*labels, *call.inside.values())
        )
        if touched and weights_of_operation(call.operation) and not can_narrow(call):
            rule_of(narrow, call.operation)(call.operation, None)
