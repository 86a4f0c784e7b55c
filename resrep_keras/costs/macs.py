"""Multiply-accumulates (MACs) of a model: one fused multiply-add is one MAC.

Counted are the products of convolutions, dense, recurrent and attention layers. Normalisation,
activations, pooling and biases count nothing, as in the published figures of the field. `macs` is
an open function; a rule answers with `Term`s, so that the cost is known for any number of channels.
"""

import functools
import math

from resrep_keras.costs.terms import Term, TermSum, UnknownSize
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.layers.compactor import Compactor


@functools.singledispatch
def macs(layer, call):
    """Return the `Term`s of one call of `layer`: one, a list, or `None` without weights."""
    return None


def positions_of(shape, *without):
    """Number of positions of a tensor of this shape, some axes left out; `None` if unknown."""
    sizes = [size for axis, size in enumerate(shape) if axis and axis not in without]
    return None if None in sizes else math.prod(sizes)


def labels_along(flow, axis):
    """The labels of a flow along an axis that is multiplied: a factor of a `Term`."""
    return flow.labels_along(axis)


def times(number, *others):
    """The product; `None` where `number` is unknown."""
    return None if number is None else number * math.prod(others)


class MacCost(TermSum):
    """Exact MACs of a graph for any keep array.

    Args:
        graph: A `ChannelGraph`.
        compactors: Whether to count compactors, which `finalize` folds away. Defaults to `True`.

    Raises:
        UnknownSize: The cost depends on a size that is unknown.
    """

    unit = "MACs"

    def __init__(self, graph, compactors=True):
        named_terms = []
        for call in graph.calls:
            if isinstance(call.operation, Compactor) and not compactors:
                continue
            terms = rule_of(macs, call.operation)(call.operation, call)
            terms = terms if isinstance(terms, list) else [terms] * (terms is not None)
            if any(None in (term.coefficient, call.repeats) for term in terms):
                raise UnknownSize(
                    f"The cost of layer '{call.name}' depends on its input shape "
                    f"{call.input.shape} and output shape {call.output_shape}, which are not all "
                    "known. Give input_shape=(height, width, channels), or build the model for a "
                    "fixed input size."
                )
            named_terms += [
                (call.name, Term(term.coefficient * call.repeats, term.factors)) for term in terms
            ]
        super().__init__(graph, named_terms)


def count_macs(model, input_shape=None):
    """Count the multiply-accumulates of one forward pass for one example.

    Args:
        model: A built Functional or Sequential `keras.Model`.
        input_shape: Shape without the batch axis, needed where the model's own has unknown sizes.

    Returns:
        An int. "FLOPs" in the sense of twice this number are not used here.

    Example:

    >>> resrep_keras.count_macs(keras.applications.ResNet50(weights=None))
    3857973248
    """
    return MacCost(trace(model, input_shape))()
