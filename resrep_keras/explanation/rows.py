"""What `explain` says of each layer, and of each node that pins channels."""

import dataclasses

import numpy as np

from resrep_keras.graph.pins import Pin

COUPLED = "set coupled=True: then all layers that make these channels lose them together."


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
        pin: The `Pin` that keeps channels; `None` where all may go.
        inexact: Why removing its channels changes outputs; `None` where it does not.
        probed: Layers without a rule that its channels pass, or that make or read them: what they
            do was found by trying them on arrays.
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
    pin: Pin | None
    inexact: str | None
    probed: tuple = ()

    @property
    def pinned(self):
        """How many of its channels stay."""
        return self.channels - self.prunable

    @property
    def pinned_by(self):
        """The node that keeps channels; `None` where all may go."""
        return self.pin and self.pin.layer

    @property
    def reason(self):
        """Why it keeps them."""
        return self.pin and self.pin.text

    @property
    def remedy(self):
        """What a user can do, so that more channels may go."""
        if self.pin is not None:
            return self.pin.remedy
        return COUPLED if self.status == "coupled" else None

    def to_dict(self):
        """JSON values."""
        values = dataclasses.asdict(self)
        inexact, probed = values.pop("inexact"), values.pop("probed")
        values.pop("pin")
        told = {"pinned_by": self.pinned_by, "reason": self.reason, "remedy": self.remedy}
        return {**values, **told, "inexact": inexact, "probed": probed}


@dataclasses.dataclass(frozen=True)
class PinRow:
    """One node that pins channels.

    Args:
        layer: Its name.
        channels: How many channels it keeps first of all.
        pins: Why it keeps them, a `Pin` for each reason.
    """

    layer: str
    channels: int
    pins: tuple

    @property
    def reasons(self):
        """Why it keeps them, in words."""
        return tuple(pin.text for pin in self.pins)

    @property
    def remedies(self):
        """What a user can do, each once."""
        return tuple(dict.fromkeys(pin.remedy for pin in self.pins))

    def to_dict(self):
        """JSON values."""
        return {
            "layer": self.layer,
            "channels": self.channels,
            "reasons": self.reasons,
            "remedies": self.remedies,
        }


def layer_rows(graph):
    """A `LayerRow` for each layer that makes channels."""
    probed = _probed(graph)
    pairs = [(group, producer) for group in graph.groups for producer in group.producers]
    return tuple(_row(group, producer, probed) for group, producer in pairs)


def _probed(graph):
    """Pairs of a call whose rule was found by trying, and the ids of the channels that it meets."""
    found = []
    for call in graph.calls:
        if call.found is not None:
            labels = [flow.labels.ravel() for flow in (*call.inputs, *call.outputs)]
            found.append((call.name, graph.channel_of[np.concatenate(labels)]))
    return found


def _row(group, producer, probed):
    goes = group.prunable
    kept = dict(zip(group.channels.tolist(), group.pinned.tolist()))
    pin = _first_pin(group, producer) if goes else group.pinned_by
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
        pin=pin,
        inexact=str(group.inexact) if goes and group.inexact else None,
        probed=tuple(
            dict.fromkeys(name for name, ids in probed if np.isin(producer.channels, ids).any())
        ),
    )


def _first_pin(group, producer):
    """The `Pin` of some channels of a layer whose others may go; `None` where all may."""
    own = set(producer.channels.tolist())
    pins = zip(group.channels.tolist(), group.reasons)
    return next((pin for channel, pin in pins if pin and channel in own), None)


def _status(group, producer):
    if not group.prunable:
        return "pinned"
    if producer.follows:
        return "follows"
    return "coupled" if group.coupled else "prunable"


def pin_rows(graph, rows):
    """A `PinRow` for each node that pins channels: those of the graph, then what a row names."""
    pinned = [row for row in rows if row.pin is not None]
    kept, pins = {}, {}
    for row in pinned:
        kept[row.pinned_by] = kept.get(row.pinned_by, 0) + row.pinned
    for pin in dict.fromkeys([*graph.pins, *(row.pin for row in pinned)]):
        pins.setdefault(pin.layer, []).append(pin)
    return tuple(PinRow(name, kept.get(name, 0), tuple(found)) for name, found in pins.items())
