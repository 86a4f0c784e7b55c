"""Importance scores: one non-negative number for each channel, larger = keep."""

import numpy as np

from resrep_keras.surgery.channel_weights import weights_that_make


def joint_norm(columns, num_channels):
    """Root mean square of the norms of all columns that share a channel.

    A mean, so that channels of many columns (a residual stream) and of few start alike: the root of
    a sum would keep every stream to the last.

    Args:
        columns: Pairs of channel ids and column norms, both `(channels,)`; id -1 is left out.
        num_channels: Number of channel ids.

    Returns:
        Float64 `(num_channels,)`; infinite where a channel has no column.
    """
    return np.sqrt(mean_over([(ids, np.square(norms)) for ids, norms in columns], num_channels))


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


def by_layer_mean(scores, groups):
    """Scores divided by the mean of their layer, so that layers of any scale compare."""
    return relative_to_layer(scores, groups, np.isfinite(scores))


def guarded(scores, groups, strength=1.0):
    """Scores that rise as their layer empties, so that none collapses while others have channels.

    Each score is that of a channel alone. Where the channels below it in its layer have gone, it
    stands for more: of what the layer was worth in the beginning, `total`, there is `left` what it
    and the channels above it are worth.

    ```
    score * (total / left) ** strength
    ```

    At strength 1 the last channel of a layer costs as much as the whole layer. The order within a
    layer stays as it is.

    Args:
        scores: Float `(num_channels,)`, 0 or larger.
        groups: The `ChannelGroup`s.
        strength: 0 or larger; at 0 the scores stay.
    """
    found = scores.copy()
    for group in groups:
        ids = group.channels[np.isfinite(scores[group.channels])]
        ids = ids[np.argsort(scores[ids], kind="stable")]
        left = np.cumsum(scores[ids][::-1])[::-1]
        if len(ids) and left[0] > 0:
            ids, left = ids[left > 0], left[left > 0]
            found[ids] = scores[ids] * (left[0] / left) ** strength
    return found


def per_cost(scores, saved):
    """Scores divided by what removing the channel saves, see `savings`.

    The mean saving of all channels counts as 1, so that the scale of the scores stays.
    """
    mean = saved[saved > 0].mean() if (saved > 0).any() else 1.0
    return np.divide(scores * mean, saved, out=np.full(len(scores), np.inf), where=saved > 0)


def savings(num_channels, groups, limits):
    """What removing each channel saves, as shares of the limited costs, float `(num_channels,)`.

    Args:
        num_channels: Number of channel ids.
        groups: The `ChannelGroup`s that are asked for; others save 0.
        limits: `Limit`s, whose costs are asked with one channel less.
    """
    saved = np.zeros(num_channels)
    whole = [limit.cost() for limit in limits]
    for group in groups:
        # Channels of the same producers save the same: one of them is asked.
        makers = [np.isin(group.channels, producer.channels) for producer in group.producers]
        _, kinds = np.unique(np.stack(makers), axis=1, return_inverse=True)
        for kind in np.unique(kinds):
            alike = group.channels[kinds.ravel() == kind]
            kept = np.ones(num_channels, bool)
            kept[alike[0]] = False
            saved[alike] = sum(
                max(0.0, (dense - limit.cost(kept)) / dense) for limit, dense in zip(limits, whole)
            )
    return saved


def kernel_norm(kernel, order):
    """L1 (`order=1`) or L2 (`order=2`) norm of each output channel's weights.

    Divided by the layer's mean, so that channels of layers with many and with few weights compare.

    Reference:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """
    rows = np.abs(np.asarray(kernel, np.float64)).reshape(-1, kernel.shape[-1])
    return _by_mean(rows.sum(axis=0) if order == 1 else np.sqrt(np.square(rows).sum(axis=0)))


def kernel_distance(kernel):
    """Sum of the Euclidean distances of each output channel's weights to those of all others.

    Small for a channel near the layer's geometric median, which the others can stand in for.
    Divided by the layer's mean, as in `kernel_norm`.

    Reference:
        He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
        Acceleration", CVPR 2019, equation 7.
    """
    rows = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    products = rows.T @ rows
    squares = np.diag(products)
    between = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
    return _by_mean(np.sqrt(between).sum(axis=0))


def _by_mean(scores):
    mean = scores.mean()
    if not np.isfinite(mean):  # which whoever ranks them tells, by the name of the layer
        return np.full_like(scores, np.nan)
    return scores / mean if mean > 0 else scores


def mean_over(parts, num_channels):
    """Mean of the scores that several layers give to a channel that they share.

    Args:
        parts: Pairs of channel ids and scores, both `(channels,)`; id -1 is left out.
        num_channels: Number of channel ids.

    Returns:
        Float64 `(num_channels,)`; infinite where no layer gives a score, so that the channel is
        kept to the last.
    """
    total, number = _sums(parts, num_channels)
    return np.where(number > 0, total / np.maximum(number, 1), np.inf)


def sum_over(parts, num_channels):
    """Sum of what removing a channel does by each of its layers; else as `mean_over`."""
    total, number = _sums(parts, num_channels)
    return np.where(number > 0, total, np.inf)


def _sums(parts, num_channels):
    """Sum and number of the scores of each channel."""
    total, number = np.zeros(num_channels), np.zeros(num_channels)
    for ids, scores in parts:
        known = ids >= 0
        np.add.at(total, ids[known], scores[known])
        np.add.at(number, ids[known], 1)
    return total, number


def score_weights(graph, score):
    """Mean over a channel's producers of the scores of their weights.

    Args:
        graph: A `ChannelGraph`.
        score: Function of an array of `producing_weights` that returns one score a channel.

    Returns:
        Float64 `(num_channels,)`; infinite where the weights of no producer are known.
    """
    parts = []
    for group in graph.groups:
        for producer in group.producers:
            weights = weights_that_make(graph.calls_by_name[producer.layer], producer.inside)
            if weights is not None and not producer.follows:
                parts.append((producer.channels, score(weights)))
    return mean_over(parts, graph.num_channels)
