"""What each layer of a dense and a slim model is: channels, MACs, latency; in the model's order."""

import dataclasses

from resrep_keras.costs.latency_model import layer_seconds
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.terms import UnknownSize


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer that makes channels or multiplies, before and after.

    Args:
        name: Of the layer, and of what it holds inside, such as heads, where these may go.
        kind: The name of its class.
        channels: Their numbers, `(dense, slim)`; `None` where there are none, or nobody knows.
        macs: What all calls of the layer multiply; `None` where that is not known, and for the
            further rows of a layer that has several.
        milliseconds: The time that the layer takes alone, the same way; `None` where it was not
            measured.
    """

    name: str
    kind: str
    channels: tuple = (None, None)
    macs: tuple = (None, None)
    milliseconds: tuple = (None, None)


def layer_rows(graphs, seconds=({}, {})):
    """A `LayerRow` for each layer that makes channels or multiplies, in the order of the model.

    Args:
        graphs: The `ChannelGraph`s of the dense and the slim model.
        seconds: What `seconds_by_layer` answers. Defaults to none.
    """
    sides = [_Side(graph, times) for graph, times in zip(graphs, seconds)]
    rows = []
    for call in graphs[0].calls:
        made = [name for side in sides for name in side.made.get(call.name, ())]
        if not made and not sides[0].macs.get(call.name):
            continue
        of_layer = sides
        for name in dict.fromkeys(made or [call.name]):
            rows.append(
                LayerRow(
                    name,
                    type(call.operation).__name__,
                    tuple(side.widths.get(name) for side in sides),
                    tuple(side.macs.get(call.name) for side in of_layer) or (None, None),
                    tuple(side.milliseconds.get(call.name) for side in of_layer) or (None, None),
                )
            )
            of_layer = ()  # its costs stand in the first of its rows
    return tuple(rows)


def seconds_by_layer(graphs, threads, verbose="auto"):
    """The seconds of each layer of both models alone; empty where a size is unknown.

    Args:
        graphs: Their `ChannelGraph`s.
        threads: Of the interpreter.
        verbose: See `resrep_keras.common.progress.in_sight`.
    """
    try:
        return tuple(layer_seconds(graph, threads, verbose) for graph in graphs)
    except UnknownSize:
        return {}, {}


class _Side:
    """One of the two models."""

    def __init__(self, graph, seconds):
        self.macs = _macs(graph)
        self.milliseconds = {name: 1000 * value for name, value in seconds.items()}
        self.made, self.widths = {}, {}
        for group in graph.groups:
            for producer in group.producers:
                self.made.setdefault(producer.layer, []).append(producer.name)
                self.widths[producer.name] = len(producer.channels)
        for call in graph.calls:
            axis = call.outputs[0].channel_axis if call.outputs else None
            if call.name not in self.made and axis:
                self.widths[call.name] = call.outputs[0].shape[axis]


def _macs(graph):
    try:
        cost = MacCost(graph)
    except UnknownSize:
        return {}
    known = {name: n for name, n in cost.by_layer().items() if name not in cost.unknown}
    return {call.name: 0 for call in graph.calls if call.name not in cost.unknown} | known
