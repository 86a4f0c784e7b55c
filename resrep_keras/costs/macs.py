"""Multiply-accumulates (MACs) of a model: one fused multiply-add is one MAC.

Counted are products that are summed: those of convolutions, dense, recurrent and attention layers,
and of the operations that they are made of. Normalisation, activations, pooling, biases and
products entry by entry count nothing, as in the published figures of the field. `macs` is an open
function; a rule answers with `Term`s, so that the cost is known for any number of channels. A layer
without a rule is counted in what its `call` does with symbolic tensors; where that does not tell,
its cost is `Unknown`.
"""

import functools
import math
import types
import warnings

import keras
import numpy as np

from resrep_keras.common.types import InputShape
from resrep_keras.costs.params import weight_shapes
from resrep_keras.costs.rows import rows, rows_of, rows_read, rows_seen
from resrep_keras.costs.terms import Term, TermSum, Unknown, UnknownSize
from resrep_keras.graph.flow import has_rule, rule_of
from resrep_keras.graph.inside import graph_inside
from resrep_keras.graph.labels import WHOLE
from resrep_keras.graph.probe import in_words
from resrep_keras.graph.trace import trace
from resrep_keras.keras_adapter import automatic_names_kept, is_layer
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.alike import alike_key
from resrep_keras.surgery.narrow import can_narrow


@functools.singledispatch
def macs(layer, call):
    """Return what one call of `layer` multiplies: a `Term`, an `Unknown`, or a list of them.

    An empty list, or `None`, says that it multiplies nothing.
    """
    kind = type(layer).__name__
    if is_layer(layer):
        return parts_inside(layer, *inside_of(call))
    return Unknown(
        f"operation {kind} has no rule for what it multiplies; register one with "
        f"resrep_keras.costs.macs.macs.register({kind})"
    )


def multiplies_nothing(layer, call):
    """The rule of what does not multiply and sum."""
    return []


def parts_inside(layer, graph, error, shrinking=types.MappingProxyType({})):
    """What the call of a layer without a rule multiplies: a list of `Term`s and `Unknown`s.

    Args:
        layer: The layer.
        graph, error: What `graph_inside` answers.
        shrinking: ``{id of a weight: label arrays}`` along which the weight becomes shorter; what
            the call multiplies with it falls alike. All else counts as if nothing went.
    """
    kind = type(layer).__name__
    if graph is None:
        why = (
            f"the call of {kind} does not run on symbolic tensors ({in_words(error)}) and has "
            f"no rule; register one with resrep_keras.costs.macs.macs.register({kind}), or use "
            "keras.ops in the call"
        )
        return [Unknown(why)]
    try:
        cost = MacCost(graph)
    except UnknownSize as error:
        if any(None in x.shape[1:] for x in keras.tree.flatten(graph.recording.inputs)):
            raise
        return [Unknown(f"in its call: {error}")]
    parts = [Unknown(f"in its call, '{name}': {why}") for name, why in cost.unknown.items()]
    calls = graph.calls_by_name
    for name, value in cost.by_layer().items():
        reads = map(id, keras.tree.flatten(calls[name].args))
        factors = next((shrinking[each] for each in reads if each in shrinking), ())
        parts.append(Term(value / math.prod(len(labels) for labels in factors), factors))
    return parts


def positions_of(shape, *without):
    """Number of positions of a tensor of this shape, some axes left out; `None` if unknown."""
    sizes = [size for axis, size in enumerate(shape) if axis and axis not in without]
    return None if None in sizes else math.prod(sizes)


def labels_along(flow, axis):
    """The labels of a flow along an axis that is multiplied: a factor of a `Term`."""
    return flow.labels_along(axis)


def product_term(shape, axis, factors, flow_out, out_axis=None):
    """The `Term` of weights that read one axis, and whose channels along others pass.

    Args:
        shape: Shape of the tensor, the axis of which is `axis`.
        axis: That axis.
        factors: Labels of what is read, and of what is made.
        flow_out: The flow of what is made, along `out_axis`; that of `axis` by default.
    """
    made = axis if out_axis is None else out_axis
    beside = [part for part in flow_out.parts if part.wide_axes and made not in part.wide_axes]
    positions = positions_of(shape, axis)
    if positions is None or not all(len(part.wide_axes) == 1 for part in beside):
        return Term(positions, factors)
    labels = [part.labels_along() for part in beside]
    return Term(positions // math.prod(map(len, labels)), (*factors, *labels))


def times(number, *others):
    """The product; `None` where `number` is unknown."""
    return None if number is None else number * math.prod(others)


def whole_axis(size):
    """The factor of a `Term` that stands for so many channels of which none can go."""
    return np.full(size, WHOLE)


class MacCost(TermSum):
    """Exact MACs of a graph for any keep array.

    Args:
        graph: A `ChannelGraph`.
        compactors: Whether to count compactors, which `finalize` folds away. Defaults to `True`.

    Raises:
        UnknownSize: The cost depends on a size that is unknown.
    """

    unit = "MACs"

    @automatic_names_kept()  # of the symbolic tensors that calls are looked into with
    def __init__(self, graph, compactors=True):
        named_terms, unknown = [], {}
        of_tensor = rows_of(graph, rows_made)
        for call in graph.calls:
            if isinstance(call.operation, Compactor) and not compactors:
                continue
            parts = _parts(graph, call)
            times = rows_read(call, of_tensor)
            for part in parts:
                if isinstance(part, Unknown):
                    unknown.setdefault(call.name, part.why)
                elif times is None and not part.whole:
                    why = "its inputs have the examples along another axis than the first"
                    unknown.setdefault(call.name, why)
                else:
                    rows = 1 if part.whole else times
                    named_terms.append((call.name, _repeated(part, call, rows)))
        super().__init__(graph, named_terms, unknown)


def inside_of(call):
    """What `look_inside` answers of a call; it is found out once."""
    if "inside" not in call.memo:
        call.memo["inside"] = look_inside(call.operation, call.args, call.kwargs)
    return call.memo["inside"]


def look_inside(layer, args, kwargs, batched=True):
    """What `graph_inside` answers, for a batch of 1 where one without a size tells too little.

    A reshape to the size of the batch may then say nothing of what becomes of the examples.
    """
    found = graph_inside(layer, args, kwargs, batched=batched)
    if _is_clear(found[0]):
        return found
    again = graph_inside(layer, args, kwargs, 1, batched)
    return again if found[0] is None or _is_clear(again[0]) else found


def _is_clear(graph):
    """Whether it is known of each tensor in a graph how many of its rows make an example."""
    return graph is not None and None not in rows_of(graph, rows_made).values()


def rows_made(call, given, of_tensor):
    """How many entries of the first axis of a call's outputs belong to one example: a list.

    Args:
        call: The `Call`.
        given: How many of its inputs do.
        of_tensor: What is known so far, see `rows_of`.
    """
    operation = call.operation
    if has_rule(rows, operation) or not isinstance(operation, keras.Operation):
        return [rule_of(rows, operation)(operation, call, given)] * len(call.outputs)
    if not is_layer(operation):
        return rows_seen(call, of_tensor)
    if call.found is not None and call.found.rows_stay:
        return [given] * len(call.outputs)
    made = None if has_rule(macs, operation) else _rows_inside(call)
    if made is None:
        return [given] * len(call.outputs)
    return [each and each * given for each in made]


def _rows_inside(call):
    """What `rows_made` answers for one row, as the inside of a call tells; `None` where none does.

    It is found out once for calls that are alike.
    """
    if "rows" not in call.memo:
        key = "rows", alike_key(call)
        if None in key or key not in call.known:
            call.known[key] = _rows_of_graph(inside_of(call)[0])
        call.memo["rows"] = call.known[key]
    return call.memo["rows"]


def _rows_of_graph(graph):
    if graph is None:
        return None
    inside = rows_of(graph, rows_made)
    return [inside.get(id(tensor), 1) for tensor in keras.tree.flatten(graph.recording.outputs)]


def _parts(graph, call):
    """What a call multiplies, as a list of `Term`s and `Unknown`s; it is found out once."""
    if "macs" not in call.memo:
        layer = call.operation
        tried = call.found and call.found.terms(call)
        if tried is not None:
            answer = tried
        elif is_layer(layer) and not has_rule(macs, layer) and can_narrow(call):
            weights = zip(layer.weights, weight_shapes(graph, call))
            shrinking = {id(weight): factors for weight, (_, factors) in weights if factors}
            answer = parts_inside(layer, *inside_of(call), shrinking)
        else:
            answer = rule_of(macs, layer)(layer, call)
            answer = answer if isinstance(answer, list) else [answer] * (answer is not None)
        call.memo["macs"] = answer
    return call.memo["macs"]


def _repeated(term, call, rows):
    if None in (term.coefficient, call.repeats):
        raise UnknownSize(
            f"The cost of layer '{call.name}' depends on its input shape {call.input.shape} and "
            f"output shape {call.output_shape}, which are not all known. Give "
            "input_shape=(height, width, channels), or build the model for a fixed input size."
        )
    return Term(term.coefficient * call.repeats * rows, term.factors)


def count_macs(model: keras.Model, input_shape: InputShape = None) -> int:
    """Count the multiply-accumulates of one forward pass for one example.

    Args:
        model: A built Functional or Sequential `keras.Model`.
        input_shape: Shape without the batch axis, needed where the model's own has unknown sizes.

    Returns:
        An int. "FLOPs" in the sense of twice this number are not used here. What is not known is
        left out, with a warning that names it.

    Example:

    >>> resrep_keras.count_macs(keras.applications.ResNet50(weights=None))
    3857973248
    """
    cost = MacCost(trace(model, input_shape))
    warn_of_unknown(cost, stacklevel=3)
    return cost()


def warn_of_unknown(cost, stacklevel):
    """Name the layers of which a part of the cost is not known, in one warning."""
    if cost.unknown:
        warnings.warn(cost.complaint, stacklevel=stacklevel)
