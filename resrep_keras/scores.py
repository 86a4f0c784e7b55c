"""Importance scores: one non-negative number for each channel, larger = keep."""

import functools

import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.graph.rules_sequences import CONV_RECURRENT, RECURRENT
from resrep_keras.graph.rules_weights import EinsumAxes
from resrep_keras.layers.gated import Gated, candidate_of, part_of


def joint_norm(columns, num_channels):
    """Norm over the columns of all compactors that share a channel.

    Args:
        columns: Pairs of channel ids and column norms, both `(channels,)`; id -1 is left out.
        num_channels: Number of channel ids.

    Returns:
        Float64 `(num_channels,)`; infinite where a channel has no column.
    """
    squares = np.zeros(num_channels)
    seen = np.zeros(num_channels, bool)
    for ids, norms in columns:
        known = ids >= 0
        np.add.at(squares, ids[known], np.square(norms[known]))
        seen[ids[known]] = True
    return np.where(seen, np.sqrt(squares), np.inf)


def relative_to_layer(scores, groups, kept):
    """Scores divided by the mean over their group's kept channels.

    Norms of compactors drift apart between layers for reasons that say little of their channels:
    before a normalisation, say, the scale of a whole layer is free. In a short run this drift would
    remove whole layers.

    Args:
        scores: Float `(num_channels,)`.
        groups: The `ChannelGroup`s to normalise.
        kept: Bool `(num_channels,)`, the channels over which means are taken.
    """
    relative = scores.copy()
    for group in groups:
        peers = scores[group.channels][kept[group.channels]]
        mean = peers[np.isfinite(peers)].mean() if len(peers) else 0.0
        if mean > 0:
            relative[group.channels] = scores[group.channels] / mean
    return relative


def per_cost(scores, groups, limits):
    """Scores divided by what removing the channel saves, as shares of the limited costs.

    The mean saving of all channels counts as 1, so that the scale of the scores stays.

    Args:
        scores: Float `(num_channels,)`.
        groups: The `ChannelGroup`s to normalise.
        limits: `Limit`s, whose costs are asked with one channel less.
    """
    saved = np.zeros(len(scores))
    whole = [limit.cost() for limit in limits]
    for group in groups:
        # Channels of the same producers save the same: one of them is asked.
        makers = [np.isin(group.channels, producer.channels) for producer in group.producers]
        _, kinds = np.unique(np.stack(makers), axis=1, return_inverse=True)
        for kind in np.unique(kinds):
            alike = group.channels[kinds.ravel() == kind]
            kept = np.ones(len(scores), bool)
            kept[alike[0]] = False
            saved[alike] = sum(
                max(0.0, (dense - limit.cost(kept)) / dense) for limit, dense in zip(limits, whole)
            )
    mean = saved[saved > 0].mean() if (saved > 0).any() else 1.0
    return np.divide(scores * mean, saved, out=np.full(len(scores), np.inf), where=saved > 0)


def kernel_norm(kernel, order):
    """L1 (`order=1`) or L2 (`order=2`) norm of each output channel's weights.

    Divided by the layer's mean, so that channels of layers with many and with few weights compare.

    Reference:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    rows = np.abs(np.asarray(kernel, np.float64)).reshape(-1, kernel.shape[-1])
    norms = rows.sum(axis=0) if order == 1 else np.sqrt(np.square(rows).sum(axis=0))
    mean = norms.mean()
    return norms / mean if mean > 0 else norms


# --- the weights that make a channel -----------------------------------------------------------


@functools.singledispatch
def producing_weights(layer, inside=None):
    """The weights that make each channel of a layer: an array whose last axis is the channels.

    Args:
        layer: A layer that makes channels. Without a rule of its own, `layer.kernel` is read.
        inside: Name of the layer's own inner channels, `None` for its outputs.

    Returns:
        The array, or `None` where it is not known.
    """
    kernel = getattr(layer, "kernel", None)
    return None if kernel is None or inside is not None else ops.convert_to_numpy(kernel)


@register_all(producing_weights, layers.Conv1DTranspose, layers.Conv2DTranspose)
@register_all(producing_weights, layers.Conv3DTranspose)
def _transposed(layer, inside=None):
    return np.swapaxes(ops.convert_to_numpy(layer.kernel), -1, -2)


@register_all(producing_weights, layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(layer, inside=None):
    return ops.convert_to_numpy(layer.pointwise_kernel)


@producing_weights.register
def _einsum_dense(layer: layers.EinsumDense, inside=None):
    return np.moveaxis(ops.convert_to_numpy(layer.kernel), EinsumAxes(layer).kernel_out, -1)


@producing_weights.register
def _embedding(layer: layers.Embedding, inside=None):
    return ops.convert_to_numpy(layer.embeddings)


@register_all(producing_weights, layers.SpectralNormalization, Gated)
def _inner(layer, inside=None):
    return rule_of(producing_weights, layer.layer)(layer.layer, inside)


@register_all(producing_weights, *RECURRENT, *CONV_RECURRENT)
def _recurrent(layer, inside=None):
    """All gates of a unit, what it reads and what it remembers."""
    _, number = candidate_of(layer)
    kernels = [layer.cell.kernel, layer.cell.recurrent_kernel]
    rows = [ops.convert_to_numpy(kernel).reshape(-1, kernel.shape[-1]) for kernel in kernels]
    stacked = np.concatenate(rows)
    return stacked.reshape(-1, stacked.shape[-1] // number)


@producing_weights.register
def _bidirectional(layer: layers.Bidirectional, inside=None):
    return np.concatenate([_recurrent(layer.forward_layer), _recurrent(layer.backward_layer)])


# For each kind of inner channel, the kernel that makes it and the kernel's axis.
ATTENTION = {
    None: ("attention_output/kernel", 2),
    "heads": ("value/kernel", 1),
    "value": ("value/kernel", 2),
    "width": ("value/kernel", 2),
    "key": ("query/kernel", 2),
}


@register_all(producing_weights, layers.MultiHeadAttention, layers.GroupQueryAttention)
def _attention(layer, inside=None):
    name, axis = ATTENTION[inside]
    kernel = next(weight for weight in layer.weights if part_of(weight) == name)
    return np.moveaxis(ops.convert_to_numpy(kernel), axis, -1)
