"""Costs that are sums of products of channel counts, known for any keep array."""

import dataclasses

import numpy as np


class UnknownCost(ValueError):
    """A cost, or a part of it, is not known."""


class UnknownSize(UnknownCost):
    """A cost depends on a size that is not known before the model is called."""


@dataclasses.dataclass(frozen=True)
class Term:
    """``coefficient * product of channel counts``, a part of the cost of one call.

    Args:
        coefficient: Cost for one channel of each factor; `None` where a size is unknown.
        factors: Label arrays; each contributes the number of its kept entries.
        whole: Whether the coefficient is that of a whole example, however many entries of the first
            axis belong to one; else of each entry. Defaults to `False`.
    """

    coefficient: float | None
    factors: tuple
    whole: bool = False


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A part of the cost of one call that is not known, which is not the same as nothing.

    Args:
        why: In words that complete "The cost of <layer> is not known: ...".
    """

    why: str


class TermSum:
    """A named sum of terms over the channels of a graph.

    Args:
        graph: A `ChannelGraph`.
        named_terms: Pairs `(name, Term)`; labels are those of the graph.
        unknown: ``{name: why}`` of the calls of which a part is not known. Defaults to none.

    Attributes:
        names: The name of each term.
        unknown: See above; the sum is that of the rest.
    """

    unit = "units"

    def __init__(self, graph, named_terms, unknown=None):
        self.unknown = unknown or {}
        self.names = [name for name, _ in named_terms]
        factors, lengths = [], []
        for _, term in named_terms:
            # A product of no factors is 1: one entry that is always kept.
            ids = [graph.channel_of[factor].ravel() for factor in term.factors] or [[-1]]
            factors.extend(ids)
            lengths.append(len(ids))
        # One flat array of channel ids: a keep array is counted for all layers in one pass.
        self._coefficients = np.array([term.coefficient for _, term in named_terms])
        self._ids = np.concatenate([*factors, np.zeros(0, np.int64)]).astype(np.int64)
        self._starts = np.cumsum([0, *map(len, factors)])[:-1]
        self._terms = np.cumsum([0, *lengths])[:-1]

    @property
    def complaint(self):
        """Names what is not known and not counted; `None` where all is known."""
        if not self.unknown:
            return None
        named = "; ".join(f"'{name}': {why}" for name, why in self.unknown.items())
        return f"The {self.unit} of these layers are not known and not counted: {named}."

    def values(self, kept=None):
        """The value of each term, for a bool array with one entry per channel id."""
        if not self.names:
            return np.zeros(0, np.int64)
        # Index -1, a pinned channel, reads the last entry: always kept.
        kept = np.ones(1, bool) if kept is None else np.append(kept, True)
        present = kept[self._ids] if len(kept) > 1 else np.ones(len(self._ids), bool)
        counts = np.add.reduceat(present, self._starts, dtype=np.int64)
        return self._coefficients * np.multiply.reduceat(counts, self._terms)

    def by_layer(self, kept=None):
        """``{name: cost}``."""
        totals = dict.fromkeys(self.names, 0)
        for name, value in zip(self.names, self.values(kept).tolist()):
            totals[name] += value
        return totals

    def __call__(self, kept=None):
        """The whole cost, an int."""
        return round(self.values(kept).sum())
