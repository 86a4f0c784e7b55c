"""Parameters of a model, and of the model with fewer channels."""

import keras
import numpy as np

from resrep_keras.costs.terms import Term, TermSum
from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.labels import State
from resrep_keras.graph.unroll import check_model
from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.surgery.narrow import can_narrow, narrow
from resrep_keras.surgery.parts import channel_vectors, make_part


def count_params(model: keras.Model) -> int:
    """Count all scalar weights of a model, as `keras.Model.count_params` does.

    Returns:
        An int; weights that are not trainable (batch statistics) are included.
    """
    check_model(model)
    return int(model.count_params())


class ParamCost(TermSum):
    """Parameters of a model for any keep array.

    Args:
        graph: `ChannelGraph` of a model without compactors.
        scale: Function of a call that returns what one of its weights counts. Defaults to 1.

    Note:
        A layer that may have to take up constants is counted with the bias for them, so that the
        count is exact or, for such layers, a little too large; never too small.
    """

    unit = "parameters"

    def __init__(self, graph, scale=lambda call: 1):
        named_terms, seen = [], set()
        for call in graph.calls:
            key = id(call.operation)
            if weights_of_operation(call.operation) and key not in seen:
                seen.add(key)
                for shape, factors in weight_shapes(graph, call):
                    rest = np.prod([float(n) for n in shape]) * scale(call)
                    rest /= np.prod([float(len(labels)) for labels in factors])
                    named_terms.append((call.name, Term(rest, factors)))
        super().__init__(graph, named_terms)


def weight_shapes(graph, call):
    """For each weight that a layer of a call has once narrowed: its shape, and what shrinks it.

    The layer's rule for fewer channels is asked with one channel less along each channel axis, and
    the axes that become shorter are noted. So it holds for any layer with a rule.

    Returns:
        Pairs `(dense shape, label arrays)`; the size falls with the share that is kept of each.
    """
    layer = call.operation
    has_weights = weights_of_operation(layer) and can_narrow(call)
    vectors = channel_vectors(call) if has_weights else {}
    whole = {key: np.ones(len(labels), bool) for key, labels in vectors.items()}
    shapes = _narrowed(graph, call, whole) if vectors else None
    if shapes is None:  # such a layer keeps its size
        return [(tuple(weight.shape), ()) for weight in weights_of_operation(layer)]
    factors = [[] for _ in shapes]
    for key, labels in vectors.items():
        ids = graph.channel_of[labels]
        first = next((i for i in np.unique(ids) if i >= 0 and (ids != i).any()), None)
        fewer = None if first is None else _narrowed(graph, call, {**whole, key: ids != first})
        for position, shape in enumerate(fewer or ()):
            shorter = sum(new < old for new, old in zip(shape, shapes[position]))
            factors[position] += [labels] * shorter
    return [(shape, tuple(found)) for shape, found in zip(shapes, factors)]


def _narrowed(graph, call, keep):
    """Shapes of the narrowed weights, `None` where the rule does not take this selection."""
    kept = np.ones(graph.num_channels, bool)
    part = make_part(graph, call, keep, kept, _constants(graph, call))
    try:
        _, weights = rule_of(narrow, call.operation)(call.operation, part)
    except ValueError:
        return None
    return [np.shape(weight) for weight in weights]


def _constants(graph, call):
    """Zeros where removed inputs may hold constants, so that the rule makes room for a bias."""
    if 0 not in call.consumed:
        return None
    flow = call.input.along(call.axis_in)
    may_go = graph.channel_of[flow.labels] >= 0
    if not (may_go & (flow.state > State.ZERO)).any():
        return None
    return np.zeros(flow.labels.size)
