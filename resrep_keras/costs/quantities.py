"""What a target can be about: the costs of the slim model, predicted for any keep masks."""

import dataclasses
from collections.abc import Callable

from resrep_keras.costs.activations import ActivationCost
from resrep_keras.costs.comparison import compare_files, compare_latencies
from resrep_keras.costs.file_size import FileCost, measure_file
from resrep_keras.costs.latency_model import LatencyCost, measure_latency
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.params import ParamCost, count_params
from resrep_keras.costs.terms import TermSum, UnknownCost
from resrep_keras.tflite.convert import to_tflite


@dataclasses.dataclass(frozen=True)
class Quantity:
    """Something that a target can be about; `report` and `explain` show it by themselves.

    Args:
        label: What tables call it, such as `"MACs"`.
        unit: Of the values in a table; empty where the label says it.
        measure: Maps `(dense model, folded, threads)` to the dense value and to what `predict` has
            to know of it: JSON values, or `None`.
        predict: Maps `(folded, what was measured)` to a cost of the folded graph.
        compare: Maps a `Comparison` to the values of the dense and the slim model in `unit`, or to
            `None` where this process cannot tell. It raises `UnknownCost` where a part is not
            known.
        cost_of: Maps the `ChannelGraph` of a dense model to a cost, where that graph tells all, so
            that `explain` can say before anything is measured how far it falls; else `None`.
        count: Maps a finished slim model to its value, where `predict` gives a bound only; else
            `None`.
    """

    label: str
    unit: str
    measure: Callable
    predict: Callable
    compare: Callable
    cost_of: Callable | None = None
    count: Callable | None = None


def quantity_of_graph(label, cost_of, unit=""):
    """A `Quantity` that the graph of a model tells, folded or not.

    Args:
        label, unit: See `Quantity`.
        cost_of: Maps a `ChannelGraph` to a cost: a function of a keep array that never grows when a
            channel goes, with a `unit`. A `TermSum`, say, which names what is not known.
    """
    return Quantity(
        label,
        unit,
        measure=lambda dense, folded, threads: (cost_of(folded.graph)(), None),
        predict=lambda folded, facts: cost_of(folded.graph),
        compare=lambda comparison: tuple(_known(cost_of(graph)) for graph in comparison.graphs),
        cost_of=cost_of,
    )


def _known(cost):
    """The dense value of a cost that may be a `TermSum` of which a part is not known."""
    if isinstance(cost, TermSum) and cost.unknown:
        raise UnknownCost(cost.complaint)
    return cost()


def _measure_latency(dense, folded, threads):
    facts = measure_latency(folded.graph, threads)
    return LatencyCost(folded.graph, facts)(), facts


# By the names that `target_reduction` and `at_most` take. One's own can be added.
QUANTITIES = {
    "macs": quantity_of_graph("MACs", MacCost),
    "params": Quantity(
        "parameters",
        unit="",
        measure=lambda dense, folded, threads: (count_params(dense), None),
        predict=lambda folded, facts: ParamCost(folded.graph),
        compare=lambda comparison: tuple(count_params(model) for model in comparison.models),
    ),
    "activation_bytes": quantity_of_graph("activation memory", ActivationCost, "bytes"),
    "file_bytes": Quantity(
        ".tflite file",
        unit="bytes",
        measure=lambda dense, folded, threads: measure_file(dense, folded.model, folded.graph),
        predict=lambda folded, fixed_bytes: FileCost(folded.graph, fixed_bytes),
        compare=compare_files,
        count=lambda slim: len(to_tflite(slim)),
    ),
    "latency": Quantity(
        "TFLite latency",
        unit="ms",
        measure=_measure_latency,
        predict=lambda folded, facts: LatencyCost(folded.graph, facts),
        compare=compare_latencies,
    ),
}
