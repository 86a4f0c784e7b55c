"""What a target can be about: the costs of the slim model, predicted for any keep masks."""

import dataclasses
from collections.abc import Callable

from resrep_keras.costs.activations import ActivationCost
from resrep_keras.costs.file_size import FileCost, measure_file
from resrep_keras.costs.latency_model import LatencyCost, measure_latency
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.params import ParamCost, count_params


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
    facts = measure_latency(folded.graph, threads)
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
