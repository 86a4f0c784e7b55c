"""What a target can be about: the costs of the slim model, predicted for any keep masks."""

import dataclasses
from collections.abc import Callable

import numpy as np

from resrep_keras.costs.activations import ActivationCost
from resrep_keras.costs.file_size import FileCost, measure_file
from resrep_keras.costs.latency_model import LatencyCost, measure_latency
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.params import ParamCost, count_params
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.fold import fold


class Folded:
    """The model that `finalize` would return if no channel were dead.

    Args:
        model: A model with compactors.
        graph: Its `ChannelGraph`.
        input_shape, exact: See `resrep_keras.trace`.

    Attributes:
        model: Without compactors, of the same widths.
        graph: Its `ChannelGraph`.
    """

    def __init__(self, model, graph, dead, input_shape, exact):
        self.model = fold(model, dead)
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
        """The keep array of this graph that means what `kept` does in the wrapped one."""
        translated = np.ones(self.graph.num_channels, bool)
        if kept is not None:
            translated[self._here] = kept[self._there]
        return translated


class SlimCost:
    """A cost of the folded graph, asked with keep arrays of the wrapped one."""

    def __init__(self, folded, cost):
        self.unit = cost.unit
        self.cost = cost
        self._folded = folded

    def __call__(self, kept=None):
        return self.cost(self._folded.keep(kept))


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Something that a target can be about.

    Args:
        measure: Maps `(dense model, folded, threads)` to the dense value and to what `predict` has
            to know of it: JSON values, or `None`.
        predict: Maps `(folded, what was measured)` to a cost of the folded graph.
    """

    measure: Callable
    predict: Callable


def _from_graph(cost_of):
    """A quantity that the graph alone tells."""

    def predict(folded, facts):
        return cost_of(folded.graph)

    return predict


def _measure_latency(dense, folded, threads):
    facts = measure_latency(folded.model, folded.graph, threads)
    return LatencyCost(folded.graph, facts)(), facts


# The names that `target_reduction` and `at_most` take. One's own can be added.
QUANTITIES = {
    "macs": Quantity(
        lambda dense, folded, threads: (MacCost(folded.graph)(), None), _from_graph(MacCost)
    ),
    "params": Quantity(
        lambda dense, folded, threads: (count_params(dense), None), _from_graph(ParamCost)
    ),
    "file_bytes": Quantity(
        lambda dense, folded, threads: measure_file(dense, folded.model, folded.graph),
        lambda folded, fixed_bytes: FileCost(folded.graph, fixed_bytes),
    ),
    "activation_bytes": Quantity(
        lambda dense, folded, threads: (ActivationCost(folded.graph)(), None),
        _from_graph(ActivationCost),
    ),
    "latency": Quantity(_measure_latency, lambda folded, facts: LatencyCost(folded.graph, facts)),
}
