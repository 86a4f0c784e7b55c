"""Importance scores: one non-negative number for each channel, larger = keep."""

import numpy as np


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
