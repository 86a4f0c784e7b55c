"""choose_keep: which channels to keep so that all limits are met."""

import collections
import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Limit:
    """A cost, and the largest value of it that is allowed.

    Args:
        name: Name of the cost.
        cost: Maps a keep array to a number that never grows when a channel goes (`MacCost`); its
            `unit` is named in errors.
        at_most: The largest value that is allowed.
        dense: The cost of the dense model.
        relative: Whether `at_most` was given as a `target_reduction`.
    """

    name: str
    cost: Callable
    at_most: float
    dense: float
    relative: bool = True

    def met(self, kept):
        return self.cost(kept) <= self.at_most

    def left(self, kept):
        """The cost as a share of the dense model's."""
        return self.cost(kept) / max(1e-30, self.dense)


class UnreachableTarget(ValueError):
    """A target that cannot be met, even with every channel gone that may go.

    Args:
        quantity: Name of the quantity, such as `"macs"`.
        floor: What is left of it at least.
        largest_reduction: The largest `target_reduction` that can be met, rounded down to 4 digits.
        text: What to tell the user.
    """

    def __init__(self, quantity, floor, largest_reduction, text):
        super().__init__(quantity, floor, largest_reduction, text)
        self.quantity = quantity
        self.floor = floor
        self.largest_reduction = largest_reduction
        self.text = text

    def __str__(self):
        return self.text

    def adding(self, text):
        """The same, with more to tell."""
        told = self.quantity, self.floor, self.largest_reduction
        return UnreachableTarget(*told, self.text + text)


def removable(groups, scores, minimum=None, widths=None, read=()):
    """The blocks of channels in the order in which they go: by score, then group, then channel.

    Each layer keeps at least its `minimum`, the channels of the highest scores, each reader one;
    pinned channels never go. A block is one channel, or as many as lie between two `widths` of a
    layer; its score is the mean of its channels'.

    Args:
        groups: The `ChannelGroup`s that may lose channels.
        scores: Importance, float, one for each channel id.
        minimum: ``{producer name: channels}``; 1 for those left out.
        widths: ``{producer name: allowed numbers of channels}``, ascending; all for those left out.
        read: The `ReadChannels` of which one must stay, see `ChannelGraph.read_channels`.

    Returns:
        Channel ids in their order, and where each block ends among them: the first 0, for no block.

    Raises:
        ValueError: A score is NaN.
    """
    minimum, widths = minimum or {}, widths or {}
    ids, sizes, keys, positions = [np.zeros(0, np.int64)], [], [], []
    for position, group in enumerate(groups):
        own = scores[group.channels]
        if np.isnan(own).any():
            raise ValueError(
                f"The importance scores of layer '{group.name}' hold NaN. The training has "
                "diverged: lower the learning rate."
            )
        order = np.argsort(own, kind="stable")
        order = group.channels[order[~group.pinned[order]]]
        own = [each.channels for each in read if each.channels[0] in group.channels]
        order, blocks = _blocks(group, order, minimum, widths, own)
        if len(blocks):
            starts = np.cumsum([0, *blocks])[:-1]
            ids.append(order)
            sizes.append(blocks)
            keys.append(np.add.reduceat(scores[order], starts) / blocks)
            positions.append(np.full(len(blocks), position))
    if not sizes:
        return ids[0], np.zeros(1, np.int64)
    order, sizes, keys, positions = (
        np.concatenate(arrays) for arrays in (ids, sizes, keys, positions)
    )
    starts = np.cumsum([0, *sizes])[:-1]
    chosen = np.lexsort((starts, positions, keys))
    ends = np.cumsum([0, *sizes[chosen]])
    # The channels of the chosen blocks, one after the other.
    within = np.arange(ends[-1]) - np.repeat(ends[:-1], sizes[chosen])
    return order[np.repeat(starts[chosen], sizes[chosen]) + within], ends


def _blocks(group, order, minimum, widths, read=()):
    """As much of `order` as leaves producers and readers enough, and the sizes of its blocks."""
    spare = {p.name: len(p.channels) - max(1, minimum.get(p.name, 1)) for p in group.producers}
    allowed = [widths[p.name] for p in group.producers if p.name in widths]
    if read or not all(len(producer.channels) == group.size for producer in group.producers):
        return _shared_blocks(group, order, spare, widths, read)
    most = max(0, min(len(order), *spare.values()))
    blocks = np.ones(most, np.int64)
    if allowed:
        both = sorted(set.intersection(*map(set, allowed)))
        left = [width for width in both if group.size - most <= width < group.size]
        blocks = np.diff([*left, group.size])[::-1]
    return order[: blocks.sum()], blocks


def _shared_blocks(group, order, spare, widths, read=()):
    """The same where producers own some of the group (a concatenation), or layers read some.

    A block holds channels of the same owners, a multiple of the smallest allowed width of each.
    """
    sizes = {p.name: min(widths.get(p.name, (1,))) for p in group.producers}
    owners, open_blocks, chosen, blocks = {}, {}, [], []
    for producer in group.producers:
        for channel in producer.channels.tolist():
            owners.setdefault(channel, []).append(producer.name)
    for number, channels in enumerate(read):  # numbers, which are no names of layers
        sizes[number], spare[number] = 1, len(channels) - 1
        for channel in channels.tolist():
            owners[channel].append(number)
    for channel in order.tolist():
        names = tuple(owners[channel])
        block = open_blocks.setdefault(names, [])
        block.append(channel)
        times = collections.Counter(names)  # how many entries of each are one channel
        whole = (sizes[name] // math.gcd(sizes[name], times[name]) for name in times)
        if len(block) == math.lcm(*whole):
            open_blocks[names] = []
            if all(spare[name] >= times[name] * len(block) for name in times):
                chosen += block
                blocks.append(len(block))
                for name in names:
                    spare[name] -= len(block)
    return np.array(chosen, np.int64), np.array(blocks, np.int64)


def choose_keep(graph, scores, limits, groups=None, minimum=None, widths=None, allowance=None):
    """Remove channels of the lowest scores, block by block, until all limits are met.

    The order is global and deterministic: ascending score, ties by group, then channel.

    Args:
        graph: A `ChannelGraph`.
        scores: Importance, float, one for each channel id; larger = keep.
        limits: The `Limit`s to meet.
        groups: The groups that may lose channels. Defaults to all that are prunable.
        minimum: ``{producer name: channels that are kept at least}``. Defaults to 1 for each.
        widths: ``{producer name: allowed numbers of channels}``, ascending. Defaults to all.
        allowance: At most so many channels are removed. Defaults to no limit.

    Returns:
        A keep array: one bool for each channel id of the graph.

    Raises:
        UnreachableTarget: A limit is below what is left when all that may go is gone.
        ValueError: A score is NaN.
    """
    if groups is None:
        groups = [group for group in graph.groups if group.prunable]
    order, ends = removable(groups, scores, minimum, widths, graph.read_channels)
    most = len(ends) - 1

    def keep(count):
        kept = np.ones(graph.num_channels, bool)
        kept[order[: ends[count]]] = False
        return kept

    for limit in limits:
        if not limit.met(keep(most)):
            raise _unreachable(limit, limit.cost(keep(most)))
    # The costs never grow, so the first count that meets the limits is found by bisection: the
    # result is that of checking after every single block.
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if all(limit.met(keep(middle)) for limit in limits):
            high = middle
        else:
            low = middle + 1
    if allowance is not None:
        low = min(low, int(np.searchsorted(ends, allowance, side="right")) - 1)
    return keep(low)


def _unreachable(limit, floor):
    """The `UnreachableTarget` of a limit, of which `floor` is left at least."""
    unit = limit.cost.unit
    at_most, dense, least = (
        f"{value:,.0f}" if limit.dense >= 100 else f"{value:.4g}"
        for value in (limit.at_most, limit.dense, floor)
    )
    largest = math.floor((1 - floor / limit.dense) * 10_000) / 10_000
    remedy = (
        f"The largest target_reduction is {largest}."
        if limit.relative
        else f"The smallest at_most is {math.ceil(floor) if limit.dense >= 100 else floor}."
    )
    text = (
        f"The target of {at_most} of {dense} {unit} ({1 - limit.at_most / limit.dense:.4f} "
        f"removed) cannot be reached: with every channel gone that may go, {least} {unit} are "
        f"left. {remedy} Ask for less, or lower min_channels, min_share, channel_multiple and "
        "exclude."
    )
    return UnreachableTarget(limit.name, floor, largest, text)
