"""What `explain` says of each layer, and of each node that pins channels."""

import dataclasses

from resrep_keras.explanation.remedies import remedy


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer that makes channels.

    Args:
        layer: Its name.
        channels: How many it makes.
        prunable: How many of them may go.
        status: "prunable", "coupled", "follows" or "pinned".
        group: The first layer of its channel group.
        coupled: Whether several layers lose these channels together.
        partners: The layers that it is coupled with.
        followers: The layers that scale its channels.
        follows: The layer whose channels it scales; `None` for most layers.
        pinned_by, reason, remedy: The node that keeps channels, why, and what a user can do;
            `None` where all may go.
        inexact: Why removing its channels changes outputs; `None` where it does not.
    """

    layer: str
    channels: int
    prunable: int
    status: str
    group: str
    coupled: bool
    partners: tuple
    followers: tuple
    follows: str | None
    pinned_by: str | None
    reason: str | None
    remedy: str | None
    inexact: str | None

    @property
    def pinned(self):
        """How many of its channels stay."""
        return self.channels - self.prunable


@dataclasses.dataclass(frozen=True)
class PinRow:
    """One node that pins channels.

    Args:
        layer: Its name.
        channels: How many channels it keeps first of all.
        reasons: Why it keeps them.
        remedies: What a user can do.
    """

    layer: str
    channels: int
    reasons: tuple
    remedies: tuple


def layer_rows(graph):
    """A `LayerRow` for each layer that makes channels."""
    return tuple(_row(group, producer) for group in graph.groups for producer in group.producers)


def _row(group, producer):
    goes = group.prunable
    kept = dict(zip(group.channels.tolist(), group.pinned.tolist()))
    node, reason = _first_pin(group, producer) if goes else group.pinned_by
    others = [other for other in group.producers if other is not producer]
    leaders = tuple(other.name for other in others if not other.follows)
    followers = tuple(other.name for other in others if other.follows)
    return LayerRow(
        layer=producer.name,
        channels=len(producer.channels),
        prunable=sum(not kept[c] for c in producer.channels.tolist()) if goes else 0,
        status=_status(group, producer),
        group=group.name,
        coupled=group.coupled,
        partners=() if producer.follows else leaders,
        followers=() if producer.follows else followers,
        follows=next(iter(leaders), group.name) if producer.follows else None,
        pinned_by=node,
        reason=reason,
        remedy=None if reason is None else remedy(reason),
        inexact=group.inexact if goes else None,
    )


def _first_pin(group, producer):
    """The node and reason that keep some channels of a layer whose others may go."""
    own = set(producer.channels.tolist())
    reasons = zip(group.channels.tolist(), group.reasons)
    found = next((why for channel, why in reasons if why and channel in own), None)
    return (None, None) if found is None else tuple(found.split(": ", 1))


def _status(group, producer):
    if not group.prunable:
        return "pinned"
    if producer.follows:
        return "follows"
    return "coupled" if group.coupled else "prunable"


def pin_rows(graph, rows):
    """A `PinRow` for each node that pins channels: those of the graph, then what only a row names."""
    pinned = [row for row in rows if row.pinned_by is not None]
    kept, reasons = {}, {}
    for row in pinned:
        kept[row.pinned_by] = kept.get(row.pinned_by, 0) + row.pinned
    for name, reason in dict.fromkeys([*graph.pins, *((r.pinned_by, r.reason) for r in pinned)]):
        reasons.setdefault(name, []).append(reason)
    return tuple(
        PinRow(name, kept.get(name, 0), tuple(found), tuple(dict.fromkeys(map(remedy, found))))
        for name, found in reasons.items()
    )
