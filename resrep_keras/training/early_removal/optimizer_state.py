"""What an optimizer remembers of each weight, carried over to the layers with fewer channels."""

import dataclasses
import itertools

import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.optimizers.transfer import copy_rest, read_slots, successor
from resrep_keras.surgery.narrow import narrow


def continued(optimizer, old, new, stages, parts):
    """An optimizer for the weights of a narrower model, in the state that another one is in.

    Args:
        optimizer: The optimizer of a model; it is left as it is.
        old: The variables that it was built for.
        new: Those of the narrower model.
        stages: The `Recording`s of the model, of what surgery made of it, one after the other, and
            of the narrower model. Channels go from the second to the third.
        parts: What `parts_of` left of the layers there.
    """
    old_slots = read_slots(optimizer, old)
    values = {key: [ops.convert_to_numpy(slot) for slot in each] for key, each in old_slots.items()}
    for position, (before, behind) in enumerate(itertools.pairwise(stages)):
        values = carry(before, behind, values, parts if position == 1 else None)
    fresh = successor(optimizer, new, old)
    new_slots = read_slots(fresh, new)
    for key, slots in new_slots.items():
        for slot, value in zip(slots, values.get(key, ())):
            if tuple(slot.shape) == value.shape:
                slot.assign(value)
    every = itertools.chain(*old_slots.values(), *new_slots.values())
    copy_rest(optimizer, fresh, {id(slot) for slot in every})
    return fresh


def carry(old, new, slots, parts=None):
    """Give each weight of `new` the arrays that its weight in `old` has.

    A layer that lost channels hands its arrays through its own rule of `narrow`, in the place of
    its weights; so a rule from outside the library serves here, too. What has no counterpart, such
    as a bias that was not there, gets nothing: its optimizer state begins anew.

    Args:
        old: The `Recording` of a model.
        new: That of the model that surgery made of it, of the same layer names.
        slots: ``{id of a weight of old: list of arrays}``.
        parts: What `parts_of` left of the layers of `old`. Defaults to all of each.

    Returns:
        ``{id of a weight of new: list of arrays}``.
    """
    narrower = {recorded.name: recorded.operation for recorded in new.all_calls()}
    carried, done = {}, set()
    for recorded in old.all_calls():
        weights = weights_of_operation(recorded.operation)
        arrays = [slots.get(id(weight), ()) for weight in weights]
        if recorded.name in done or recorded.name not in narrower or not any(arrays):
            continue
        done.add(recorded.name)
        layer = narrower[recorded.name]
        part = (parts or {}).get(recorded.name)
        if part is None:
            pairs = _by_path(weights, layer, arrays)
        else:
            pairs = zip(layer.weights, _narrowed(recorded.operation, part, arrays))
        carried.update((id(weight), own) for weight, own in pairs)
    return carried


def _by_path(weights, layer, arrays):
    there = {weight.path: weight for weight in layer.weights}
    for weight, own in zip(weights, arrays):
        if weight.path in there:
            yield there[weight.path], own


def _narrowed(layer, part, arrays):
    """For each weight of the narrower layer, its arrays; empty where they are of no use."""
    part = dataclasses.replace(part, constants=None, shift=None)
    values = [ops.convert_to_numpy(weight) for weight in layer.weights]
    rule = rule_of(narrow, layer)
    answers = []
    try:
        for position in range(max(map(len, arrays))):
            for weight, own in zip(layer.weights, arrays):
                if position < len(own):
                    weight.assign(np.broadcast_to(own[position], weight.shape))
            answers.append(rule(layer, part)[1])
    finally:
        for weight, value in zip(layer.weights, values):
            weight.assign(value)
    number = min(map(len, answers))
    for index in range(number):
        own = arrays[index] if index < len(arrays) else ()
        yield [_like(answers[k][index], array) for k, array in enumerate(own)]


def _like(answer, array):
    """An array of a lower rank than its weight was repeated along the first axes."""
    while answer.ndim > array.ndim:
        answer = answer[0]
    return answer
