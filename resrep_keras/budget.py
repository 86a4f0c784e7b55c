"""choose_keep: which channels to keep so that a cost target is met."""

import math

import numpy as np


def check_share(name, value):
    """Raise unless `value` is a number strictly between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
        raise TypeError(
            f"Expected {name} to be a number between 0 and 1, both excluded; got {value!r} of type "
            f"{type(value).__name__}."
        )
    if not 0 < value < 1:
        raise ValueError(
            f"Expected {name} between 0 and 1, both excluded (0.5 removes half of the cost); "
            f"got {value!r}."
        )


def removable(groups, scores, min_channels=1, min_share=0.0):
    """Channel ids in the order in which they go: by score, then group, then channel.

    Each layer keeps its `min_channels`, or `min_share` of its channels if that is more, those of
    the highest scores. Pinned channels never go.
    """
    ids, keys, positions = [], [], []
    for position, group in enumerate(groups):
        own = scores[group.channels]
        if np.isnan(own).any():
            raise ValueError(
                f"The importance scores of layer '{group.name}' hold NaN. The training has "
                "diverged: lower the learning rate."
            )
        order = np.argsort(own, kind="stable")
        order = order[~group.pinned[order]]
        chosen = _leave_minimum(group, group.channels[order], min_channels, min_share)
        ids.append(chosen)
        keys.append(scores[chosen])
        positions.append(np.full(len(chosen), position))
    if not ids:
        return np.zeros(0, np.int64)
    ids, keys, positions = (np.concatenate(parts) for parts in (ids, keys, positions))
    return ids[np.lexsort((ids, positions, keys))]


def _leave_minimum(group, order, min_channels, min_share):
    """The longest run of `order` that leaves each producer its minimum."""
    spare = {
        producer.name: len(producer.channels)
        - max(1, min_channels, math.ceil(min_share * len(producer.channels)))
        for producer in group.producers
    }
    if all(len(producer.channels) == group.size for producer in group.producers):
        return order[: max(0, min(spare.values()))]
    owners = {}
    for producer in group.producers:
        for channel in producer.channels.tolist():
            owners.setdefault(channel, []).append(producer.name)
    chosen = []
    for channel in order.tolist():
        if all(spare[name] > 0 for name in owners[channel]):
            chosen.append(channel)
            for name in owners[channel]:
                spare[name] -= 1
    return np.array(chosen, np.int64)


def choose_keep(
    graph, scores, cost, target, groups=None, min_channels=1, min_share=0.0, allowance=None
):
    """Remove channels of the lowest scores, one by one, until the cost is at most `target`.

    The order is global and deterministic: ascending score, ties by group, then channel.

    Args:
        graph: A `ChannelGraph`.
        scores: Importance, float, one for each channel id; larger = keep.
        cost: Maps a keep array to a number that never grows when a channel goes (`MacCost`).
        target: Largest cost allowed, in the unit of `cost`.
        groups: The groups that may lose channels. Defaults to all that are prunable.
        min_channels: Channels that each layer keeps at least. Defaults to 1.
        min_share: The same as a share of the layer's channels, in [0, 1). Defaults to 0.
        allowance: At most so many channels are removed. Defaults to no limit.

    Returns:
        A keep array: one bool for each channel id of the graph.

    Raises:
        ValueError: The target is below what is left when all that may go is gone.
    """
    if groups is None:
        groups = [group for group in graph.groups if group.prunable]
    order = removable(groups, scores, min_channels, min_share)

    def keep(count):
        kept = np.ones(graph.num_channels, bool)
        kept[order[:count]] = False
        return kept

    # The cost never grows, so the first count that meets the target is found by bisection: the
    # result is that of checking after every single channel.
    low, high = 0, len(order)
    if cost(keep(high)) > target:
        dense, floor = cost(), cost(keep(high))
        raise ValueError(
            f"The target of {target:,.0f} of {dense:,} {cost.unit} ({1 - target / dense:.4f} removed) "
            f"cannot be reached: with every channel gone that may go, {floor:,} {cost.unit} are left. "
            f"The largest target_reduction is {_floor_digits(1 - floor / dense)}. Ask for less, or "
            "lower min_channels, min_share and exclude."
        )
    while low < high:
        middle = (low + high) // 2
        if cost(keep(middle)) <= target:
            high = middle
        else:
            low = middle + 1
    return keep(low if allowance is None else min(low, allowance))


def _floor_digits(value):
    return math.floor(value * 10_000) / 10_000
