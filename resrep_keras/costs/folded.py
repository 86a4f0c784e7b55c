"""The model that `finalize` would return if no channel were dead, and costs of it."""

import numpy as np

from resrep_keras.graph.trace import trace
from resrep_keras.surgery.fold import fold


class Folded:
    """The model that `finalize` would return if no channel were dead.

    Args:
        graph: The `ChannelGraph` by whose ids channels are kept.
        own: The same, of the sizes that the model has by itself; `graph` itself where none is
            unknown.
        input_shape, exact: See `resrep_keras.trace`.

    Attributes:
        model: Without compactors, of the same widths; it shares no weight.
        graph: Its `ChannelGraph`.
    """

    def __init__(self, graph, own, input_shape, exact):
        self.model = fold(own)
        self.graph = trace(self.model, input_shape, exact)
        there = {p.name: p.channels for group in graph.groups for p in group.producers}
        pairs = [
            (producer.channels, there[producer.name])
            for group in self.graph.groups
            for producer in group.producers
            if producer.name in there
        ]
        self._here, self._there = (
            np.concatenate([np.zeros(0, np.int64), *channels]).astype(np.int64)
            for channels in (zip(*pairs) if pairs else ((), ()))
        )

    def keep(self, kept=None):
        """The keep array of this graph that means what `kept` does in the other one."""
        translated = np.ones(self.graph.num_channels, bool)
        if kept is not None:
            translated[self._here] = kept[self._there]
        return translated


class SlimCost:
    """A cost of the folded graph, asked with keep arrays of the other one."""

    def __init__(self, folded, cost):
        self.unit = cost.unit
        self.cost = cost
        self._folded = folded

    def __call__(self, kept=None):
        return self.cost(self._folded.keep(kept))
