"""Carry what an optimizer holds for each weight over to the layers with fewer channels."""

import dataclasses

import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.surgery.narrow import narrow


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
    heirs = {step.name: step.operation for step in new.all_steps()}
    carried, done = {}, set()
    for step in old.all_steps():
        weights = getattr(step.operation, "weights", ())
        held = [slots.get(id(weight), ()) for weight in weights]
        if step.name in done or step.name not in heirs or not any(held):
            continue
        done.add(step.name)
        heir = heirs[step.name]
        part = (parts or {}).get(step.name)
        if part is None:
            pairs = _by_path(weights, heir, held)
        else:
            pairs = zip(heir.weights, _narrowed(step.operation, part, held))
        carried.update((id(weight), arrays) for weight, arrays in pairs)
    return carried


def _by_path(weights, heir, held):
    there = {weight.path: weight for weight in heir.weights}
    for weight, arrays in zip(weights, held):
        if weight.path in there:
            yield there[weight.path], arrays


def _narrowed(layer, part, held):
    """For each weight of the narrower layer, its arrays; empty where they are of no use."""
    part = dataclasses.replace(part, constants=None, shift=None)
    values = [ops.convert_to_numpy(weight) for weight in layer.weights]
    rule = rule_of(narrow, layer)
    answers = []
    try:
        for position in range(max(map(len, held))):
            for weight, arrays in zip(layer.weights, held):
                if position < len(arrays):
                    weight.assign(np.broadcast_to(arrays[position], weight.shape))
            answers.append(rule(layer, part)[1])
    finally:
        for weight, value in zip(layer.weights, values):
            weight.assign(value)
    number = min(map(len, answers))
    for index in range(number):
        arrays = held[index] if index < len(held) else ()
        yield [_like(answers[k][index], array) for k, array in enumerate(arrays)]


def _like(answer, array):
    """An array of a lower rank than its weight was repeated along the first axes."""
    while answer.ndim > array.ndim:
        answer = answer[0]
    return answer
