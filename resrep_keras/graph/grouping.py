"""channel_graph: what the rules have found of channels, as groups, producers and sites."""

import numpy as np

from resrep_keras.graph.channels import ChannelGraph, ChannelGroup, Producer, Site


def channel_graph(found):
    """The `ChannelGraph` of what a `Tracer` has found; its calls are let go of."""
    labels = found.labels
    roots = labels.roots()
    made = np.unique(np.concatenate([roots[m] for m in found.producers.values()] or [[]]))
    ids = np.full(len(roots), -1, np.int64)
    ids[made.astype(np.int64)] = np.arange(len(made))
    channel_of = np.array([*(ids[r] for r in roots), -1], np.int64)  # the last for WHOLE
    grouping = _Grouping(
        found,
        channel_of,
        {int(ids[r]): labels.pin_of(r) for r in made.astype(np.int64)},
        {
            int(channel): pin
            for labels, pin in found.inexact
            for channel in np.unique(channel_of[labels])
        },
    )
    components = _components(found.producers, roots)
    sites = grouping.sites(components, len(made))
    groups = tuple(grouping.group(n, s) for n, s in zip(components, sites))
    for call in found.calls:
        call.detach()
    return ChannelGraph(
        calls=tuple(found.calls),
        groups=groups,
        pins=tuple(found.pins),
        num_channels=len(made),
        channel_of=channel_of,
        recording=found.recording,
        holds=found.holds,
        frozen=found.frozen,
        known=found.known,
    )


def _components(producers, roots):
    """Producers that share a channel, in order of their first calls."""
    component = {}
    members = {}
    for name, labels in producers.items():
        merged = [name]
        for other in {component[r] for r in roots[labels].tolist() if r in component}:
            merged = members.pop(other) + merged
        key = merged[0]
        members[key] = merged
        for member in merged:
            component.update(dict.fromkeys(roots[producers[member]].tolist(), key))
    order = list(producers)
    return sorted(
        (sorted(m, key=order.index) for m in members.values()), key=lambda m: order.index(m[0])
    )


class _Grouping:
    """What is found, by channel ids.

    Args:
        found: The `Tracer`.
        channel_of: The channel id of each label.
        pins: ``{channel id: Pin or None}``.
        inexact: ``{channel id: Pin}``.
    """

    def __init__(self, found, channel_of, pins, inexact):
        self._found, self._channel_of = found, channel_of
        self._pins, self._inexact = pins, inexact

    def _channels(self, name):
        return self._channel_of[self._found.producers[name]]

    def sites(self, components, num_channels):
        """For each component, the sites that any of its channels passes."""
        owner = np.zeros(num_channels, np.int64)
        for position, names in enumerate(components):
            for name in names:
                owner[self._channels(name)] = position
        sites = [[] for _ in components]
        activating = {call.name for call in self._found.calls if call.activates}
        for (layer, inside), (labels, axis, diagonal) in self._found.sites.items():
            ids = self._channel_of[labels].ravel()
            activates = layer in activating and inside is None
            for position in np.unique(owner[ids[ids >= 0]]):
                sites[position].append(Site(layer, ids, axis, diagonal, inside, activates))
        return sites

    def group(self, names, sites):
        """The `ChannelGroup` of some producers."""
        channels = np.unique(np.concatenate([self._channels(name) for name in names]))
        reasons = tuple(self._pins[int(c)] for c in channels)
        pinned = np.array([reason is not None for reason in reasons])
        producers = [
            Producer(layer, self._channels(name), name in self._found.followers, inside)
            for name in names
            for layer, inside in [self._found.inner_of.get(name, (name, None))]
        ]
        return ChannelGroup(
            names[0],
            channels,
            tuple(producers),
            tuple(sites),
            pinned,
            reason=reasons[0] if pinned.all() else None,
            inexact=next((self._inexact[c] for c in channels.tolist() if c in self._inexact), None),
            reasons=reasons,
        )
