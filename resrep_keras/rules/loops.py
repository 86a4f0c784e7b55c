"""What loops and branches of `keras.ops` multiply: their functions, as often as shapes tell.

A function that gets one entry after the other sees no batch: what it multiplies is counted whole.
How often `while_loop` runs, and which branch of `cond` does, is a matter of the data.
"""

import keras

from resrep_keras.costs.macs import look_inside, macs, parts_inside
from resrep_keras.costs.terms import Term, Unknown
from resrep_keras.graph.flow import register_all
from resrep_keras.keras_adapter import operation_class, operation_classes


class _Function(keras.Operation):
    """A function that is called by an operation, as if it were a layer."""

    def __init__(self, function, name):
        super().__init__(name=name)
        self.function = function

    def call(self, *args):
        return self.function(*args)


def _parts(operation, function, args, batched=True):
    """What a call of a function multiplies: `Term`s of no factors and `Unknown`s."""
    body = _Function(function, operation.name)
    return parts_inside(body, *look_inside(body, args, {}, batched))


def _often(number, parts, once=False):
    """The parts, so many times; `once` where that is for a whole example."""
    return [
        Term(number * part.coefficient, (), once) if isinstance(part, Term) else part
        for part in parts
    ]


def _entry(structure):
    """What a function gets of tensors of which it sees one entry of the first axis."""
    return keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape[1:], keras.backend.standardize_dtype(x.dtype)),
        structure,
    )


@register_all(macs, operation_class("map"), operation_class("vectorized_map"))
def _map_macs(operation, call):
    """The function runs for each entry of the first axis, which is that of the examples."""
    if "f" in call.kwargs or callable(call.args[0]):
        function, elements = call.argument("f", 0), call.argument("xs", 1)
    else:
        function, elements = operation.function, call.argument("elements", 0)
    return _parts(operation, function, (_entry(elements),), batched=False)


@macs.register(operation_class("scan"))
def _scan_macs(operation, call):
    """A step sees one entry of the first axis, and what the step before has left."""
    function, init, elements = (call.argument(n, i) for i, n in enumerate(("f", "init", "xs")))
    first = {x.shape[0] for x in keras.tree.flatten(elements)} if elements is not None else set()
    (steps,) = first or {operation.length}
    if steps is None:  # over the examples of the batch
        return _parts(operation, function, (init, _entry(elements)), batched=False)
    entry = None if elements is None else _entry(elements)
    return _often(steps, _parts(operation, function, (init, entry)), once=elements is not None)


@macs.register(operation_class("fori_loop"))
def _fori_macs(operation, call):
    bounds = operation.lower, operation.upper
    if not all(isinstance(bound, int) for bound in bounds):
        return Unknown("how often its body runs is told by a tensor")
    steps = max(0, operation.upper - operation.lower)
    return _often(steps, _parts(operation, operation.body_fun, (operation.lower, *call.args)))


@macs.register(operation_class("switch"))
def _switch_macs(operation, call):
    """Branches of the same cost cost that, whichever runs."""
    _, branches, *operands = call.args
    return _of_any([_parts(operation, branch, operands) for branch in branches])


def _of_any(found):
    """The parts of one of several functions, where all cost the same."""
    costs = {sum(part.coefficient for part in parts if isinstance(part, Term)) for parts in found}
    unknown = [part for parts in found for part in parts if isinstance(part, Unknown)]
    if unknown or len(costs) > 1:
        return [Unknown("which of its branches runs is a matter of the data"), *unknown]
    return found[0]


@register_all(macs, *operation_classes("cond", "while_loop", "associative_scan"))
def _unknown_macs(operation, call):
    kind = type(operation).__name__
    return Unknown(f"how often the functions of {kind} run is a matter of the data")
