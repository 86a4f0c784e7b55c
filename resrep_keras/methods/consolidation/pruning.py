"""Which weights a task frees: percentages, stages, masks."""

import math

import numpy as np
from keras import ops


def percent_of(task, initial, decay):
    """The percentage that a task frees: `initial` in task 0, then rounded down after each decay.

    >>> [percent_of(task, 50, 0.8) for task in range(9)]
    [50, 40, 32, 25, 20, 16, 12, 9, 7]
    """
    percent = initial
    for _ in range(task):
        # A product such as 0.8 * 5 must not be rounded down for the last digit of its float.
        percent = math.floor(round(percent * decay, 9))
    return percent


def stages_of(percent, step):
    """The percentages of the stages: multiples of `step`, up to the first not below `percent`.

    >>> stages_of(32, 10)
    [10, 20, 30, 40]
    """
    number = math.ceil(percent / step)
    return [min(step * stage, 100) for stage in range(1, number + 1)]


def first_mask(scores, percent):
    """Which weights of a variable the first task keeps, a bool array.

    Those with a score, of at least the given percentile of all scores of the variable.
    """
    return (scores != 0) & (scores >= np.percentile(scores, percent))


def later_mask(scores, needed, percent):
    """Which weights a later task keeps: all that a task before it needed, and of the others those
    of a score above the given percentile of theirs.
    """
    if needed.all():
        return np.ones_like(needed)
    return needed | (scores > np.percentile(scores[~needed], percent))


def masks_of(wrapper, scores, percent):
    """The masks of a stage, bool arrays, one for each of `wrapper.held`."""
    return [
        _mask_of(wrapper, each, ops.convert_to_numpy(found), percent)
        for found, each in zip(scores, wrapper.held)
    ]


def _mask_of(wrapper, held, scores, percent):
    if not wrapper.is_read(held.variable):  # this task cannot tell what others need
        return ops.convert_to_numpy(held.mask)
    if wrapper.task_number == 0:
        return first_mask(scores, percent)
    return later_mask(scores, ops.convert_to_numpy(held.needed), percent)
