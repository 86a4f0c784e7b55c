"""Peak activation memory: the most bytes that tensors take up at one time of a forward pass."""

import functools
import math

import keras
import numpy as np

from resrep_keras.costs.terms import Term, TermSum, UnknownSize
from resrep_keras.graph.flow import rule_of
from resrep_keras.keras_adapter import input_name


@functools.singledispatch
def runs_in_place(layer):
    """Whether the output may take the place of the input, as nothing else of it is read."""
    return False


class ActivationCost(TermSum):
    """Peak activation memory of one example in float32, for any keep array.

    Calls run in the order of the model. A tensor lives from the call that makes it to the last that
    reads it; what `runs_in_place` writes over its input. An interpreter that shares memory as well
    as it can needs this much beside the weights.

    Args:
        graph: A `ChannelGraph`.

    Raises:
        UnknownSize: A size is unknown.
    """

    unit = "bytes"

    def __init__(self, graph):
        ends = len(graph.calls)
        inputs = keras.tree.flatten(graph.recording.inputs)
        outputs = {id(tensor) for tensor in keras.tree.flatten(graph.recording.outputs)}
        last = {id(tensor): 0 for tensor in inputs}
        for index, call in enumerate(graph.calls):
            last.update((tensor, index) for tensor in (*call.input_ids, *call.output_ids))
        last.update((tensor, ends) for tensor in outputs & last.keys())
        named = [("input", Term(4 * _number(x.shape, input_name(x)), ())) for x in inputs]
        spans = [[0, last[id(tensor)]] for tensor in inputs]
        place = {id(tensor): position for position, tensor in enumerate(inputs)}
        for index, call in enumerate(graph.calls):
            over = _overwritten(call, index, last, place)
            for tensor, flow in zip(call.output_ids, call.outputs):
                if over is not None:
                    place[tensor] = over
                    spans[over][1] = max(spans[over][1], last[tensor])
                    continue
                place[tensor] = len(spans)
                spans.append([index, last[tensor]])
                named.append((call.name, _size(flow, call)))
        super().__init__(graph, named)
        self._begin, self._end = np.array(spans, np.int64).reshape(-1, 2).T
        self._steps = ends + 2

    def __call__(self, kept=None):
        sizes = self.values(kept)
        change = np.zeros(self._steps + 1)
        np.add.at(change, self._begin, sizes)
        np.add.at(change, self._end + 1, -sizes)
        return round(np.cumsum(change).max(initial=0))


def _overwritten(call, index, last, place):
    """Where the input of a call lies, if the output may be written over it."""
    single = len(call.input_ids) == 1 and len(call.output_ids) == 1
    if not single or not rule_of(runs_in_place, call.operation)(call.operation):
        return None
    return place[call.input_ids[0]] if last[call.input_ids[0]] == index else None


def _size(flow, call):
    shape = flow.shape if call.repeats == 1 else (None, call.repeats, *flow.shape[1:])
    number = _number(shape, call.name)
    labels = tuple(part.labels_along() for part in flow.parts if part.wide_axes)
    return Term(4 * number // math.prod(map(len, labels)), labels)


def _number(shape, name):
    if None in shape[1:]:
        raise UnknownSize(
            f"The activation memory of '{name}' depends on its shape {tuple(shape)}, which is not "
            "all known. Give input_shape=(height, width, channels), or build the model for a fixed "
            "input size."
        )
    return math.prod(shape[1:])
