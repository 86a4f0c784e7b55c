"""What `explain` says of a whole model: how many channels may go, and how far costs can fall."""

import dataclasses

import numpy as np

from resrep_keras.costs.budget import removable
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.costs.terms import TermSum, UnknownSize

SETTINGS = {"coupled=False": False, "coupled=True": True}


@dataclasses.dataclass(frozen=True)
class Reach:
    """How far a quantity can fall.

    Args:
        label, unit: What tables call it.
        dense: Its value of the model; this and what follows are `None` where sizes are unknown,
            and leave out what `unknown` names.
        reachable: The share that is spent on channels that may go.
        floor: By setting, what is left where each layer keeps one channel.
        largest_target_reduction: By setting, rounded down to 4 digits.
        unknown: What is not known, and not counted above; `None` where all is known.
    """

    label: str
    unit: str
    dense: float | None = None
    reachable: float | None = None
    floor: dict | None = None
    largest_target_reduction: dict | None = None
    unknown: str | None = None


@dataclasses.dataclass(frozen=True)
class Totals:
    """Counts over all rows, and how far costs can fall.

    Args:
        layers, channels: How many there are.
        prunable: Channels that may go on their own.
        coupled: Those that may go with ``coupled=True`` only.
        pinned: Those that stay.
        inexact: Those whose removal changes outputs.
        probed: Those that may go as far as layers tell that were probed, for want of a rule.
        shares: The last five as shares of the channels.
        quantities: A `Reach` for each quantity that the graph of a model tells, by its name in
            `target_reduction`.
    """

    layers: int
    channels: int
    prunable: int
    coupled: int
    pinned: int
    inexact: int
    probed: int
    shares: dict
    quantities: dict

    @property
    def macs(self):
        """MACs of one forward pass; `None` where sizes are unknown."""
        return self.quantities["macs"].dense

    @property
    def macs_reachable(self):
        """The share of the MACs that is spent on channels that may go."""
        return self.quantities["macs"].reachable

    @property
    def floor_macs(self):
        """By setting, the MACs that are left where each layer keeps one channel."""
        return self.quantities["macs"].floor

    @property
    def largest_target_reduction(self):
        """By setting, the largest share of the MACs that can be removed."""
        return self.quantities["macs"].largest_target_reduction

    @property
    def macs_unknown(self):
        """What is missing to count MACs: a size, or what a layer multiplies; `None` if nothing."""
        return self.quantities["macs"].unknown

    def to_dict(self):
        """JSON values: the counts, what is known of MACs, and all quantities."""
        values = dataclasses.asdict(self)
        quantities = values.pop("quantities")
        about_macs = {
            "macs": self.macs,
            "macs_reachable": self.macs_reachable,
            "floor_macs": self.floor_macs,
            "largest_target_reduction": self.largest_target_reduction,
            "macs_unknown": self.macs_unknown,
        }
        return {**values, **about_macs, "quantities": quantities}


def totals_of(graph, rows):
    """The `Totals` of a graph and its `LayerRow`s."""
    channels = sum(row.channels for row in rows)
    alone = sum(row.prunable for row in rows if not row.coupled)
    coupled = sum(row.prunable for row in rows if row.coupled)
    counts = {
        "prunable": alone,
        "coupled": coupled,
        "pinned": channels - alone - coupled,
        "inexact": sum(row.prunable for row in rows if row.inexact is not None),
        "probed": sum(row.prunable for row in rows if row.probed),
    }
    return Totals(
        layers=len(rows),
        channels=channels,
        **counts,
        shares={name: count / max(channels, 1) for name, count in counts.items()},
        quantities={
            name: _reach(graph, quantity)
            for name, quantity in QUANTITIES.items()
            if quantity.cost_of is not None
        },
    )


def _reach(graph, quantity):
    try:
        cost = quantity.cost_of(graph)
    except UnknownSize as error:
        return Reach(quantity.label, quantity.unit, unknown=str(error))
    dense = cost()
    floors = {name: _floor(graph, cost, coupled) for name, coupled in SETTINGS.items()}
    kept = np.ones(graph.num_channels, bool)
    for group in filter(lambda g: g.prunable, graph.groups):
        kept[group.channels[~group.pinned]] = False
    return Reach(
        quantity.label,
        quantity.unit,
        dense=dense,
        reachable=(dense - cost(kept)) / (dense or 1),
        floor=floors,
        # Counts stay integers, so that the last digit is rounded down and never up.
        largest_target_reduction={
            name: (dense - floor) * 10_000 // (dense or 1) / 10_000
            for name, floor in floors.items()
        },
        unknown=cost.complaint if isinstance(cost, TermSum) else None,
    )


def _floor(graph, cost, coupled):
    """What is left where each layer that may be pruned keeps one channel."""
    groups = [group for group in graph.groups if group.prunable and (coupled or not group.coupled)]
    kept = np.ones(graph.num_channels, bool)
    kept[removable(groups, np.zeros(graph.num_channels))[0]] = False
    return cost(kept)
