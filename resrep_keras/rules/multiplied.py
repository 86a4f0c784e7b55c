"""What a layer without a rule multiplies, for any number of channels: narrower copies tell.

Each product of its call takes its share of the channels that are read and of those made, or
takes all: so the sum is linear in each of these numbers, and a few copies tell it. Another one
shows whether that is so.
"""

import dataclasses

from resrep_keras.costs.macs import inside_of, look_inside, macs, parts_inside
from resrep_keras.costs.terms import Term, Unknown
from resrep_keras.graph.flow import has_rule
from resrep_keras.keras_adapter import is_layer
from resrep_keras.surgery.choosing import choices, shapes_for
from resrep_keras.surgery.trial import Unlike


@dataclasses.dataclass(frozen=True)
class Way:
    """Channels of which a layer may read, or make, fewer.

    Args:
        name: Position of the input, or ``"out"``.
        width: How many they are.
        axes: ``{position of an input: axis}`` where they are read; empty for those that are made.
        key: The entry of the configuration that holds their number; `None` where none does.
    """

    name: object
    width: int
    axes: dict
    key: str | None


def find_cost(call, trial, ways):
    """``{names of ways: MACs for each of their channels}``; `None` where they are not known.

    Args:
        call: The `Call`.
        trial: Its `Trial`.
        ways: The `Way`s.

    Raises:
        Unlike: The MACs do not fall in that manner.
    """
    layer = call.operation
    open_sizes = any(None in tensor.shape[1:] for tensor in trial.tensors)
    if not is_layer(layer) or has_rule(macs, layer) or open_sizes:
        return None
    whole = parts_inside(layer, *inside_of(call))
    if not whole:
        return {}

    def count(numbers):
        if all(numbers[way.name] == way.width for way in ways):
            return _summed(whole)
        copy, shapes = _copy_of(trial, ways, numbers)
        seen = look_inside(copy.operation, *trial.symbolic(shapes))
        return _summed(parts_inside(copy.operation, *seen))

    cost = _coefficients(count, list(ways), {})
    if cost is None:
        return None
    last = {way.name: len(choices(way.width)[-1]) for way in ways}
    found, expected = count(last), _value(cost, last)
    if found is None or abs(found - expected) > 1e-6 * max(abs(expected), 1.0):
        raise Unlike(
            f"changes its MACs in a way that is not predicted: {found or 0:,.0f} of a copy, and "
            f"not {expected:,.0f}"
        )
    return cost


def terms_of(cost, call, axes):
    """The `Term`s of what `find_cost` has found; `axes` are those of the ways, by their names."""
    labels = {
        name: (call.outputs[0] if name == "out" else call.inputs[name]).labels_along(axis)
        for name, axis in axes.items()
    }
    return [
        Term(coefficient, tuple(labels[name] for name in names))
        for names, coefficient in cost.items()
        if coefficient
    ]


def _copy_of(trial, ways, numbers):
    shapes, changes = [tuple(tensor.shape) for tensor in trial.tensors], {}
    for way in ways:
        for position, shape in enumerate(shapes_for(trial, way.axes, numbers[way.name])):
            shapes[position] = shape if position in way.axes else shapes[position]
        if way.key is not None:
            changes[way.key] = numbers[way.name]
    return trial.copy(changes, shapes), shapes


def _coefficients(count, ways, numbers):
    """The coefficients of a sum that is linear in each number; `None` where one is not known."""
    if not ways:
        value = count(numbers)
        return None if value is None else {(): value}
    way, *others = ways
    fewer = len(choices(way.width)[0])
    whole = _coefficients(count, others, {**numbers, way.name: way.width})
    part = _coefficients(count, others, {**numbers, way.name: fewer})
    if whole is None or part is None:
        return None
    slopes = {names: (whole[names] - part[names]) / (way.width - fewer) for names in whole}
    base = {names: part[names] - slope * fewer for names, slope in slopes.items()}
    return {**base, **{(way.name, *names): slope for names, slope in slopes.items()}}


def _value(cost, numbers):
    total = 0.0
    for names, coefficient in cost.items():
        for name in names:
            coefficient *= numbers[name]
        total += coefficient
    return total


def _summed(parts):
    """The MACs of `Term`s that nothing makes fewer; `None` where one is not known."""
    if any(isinstance(part, Unknown) or part.coefficient is None for part in parts):
        return None
    return sum(part.coefficient for part in parts)
