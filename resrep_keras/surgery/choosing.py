"""Choices of channels before a call that is tried, and the copies of its layer that read them."""

import itertools

import numpy as np
from keras import ops

from resrep_keras.graph.probe import in_words
from resrep_keras.keras_adapter import is_layer, weights_of_operation
from resrep_keras.surgery.narrow import take
from resrep_keras.surgery.outputs import Selected
from resrep_keras.surgery.trial import KINDS, Unlike

MOST_WEIGHTS = 4  # of which each set is tried


def choices(width):
    """Some channels of so many, in their order: half of them, and all but one."""
    numbers = dict.fromkeys([max(1, width // 2), width - 1])
    generator = np.random.default_rng(width)
    return [np.sort(generator.choice(width, number, replace=False)) for number in numbers]


def kinds_for(number):
    """The positions in `KINDS` with which a choice is tried: the first one with all of them."""
    return range(len(KINDS)) if number == 0 else [0]


def chosen(arrays, axes, choice):
    """Arrays of which some, ``{position: axis}``, hold the chosen channels only."""
    return [
        ops.take(x, choice, axes[position]) if position in axes else x
        for position, x in enumerate(arrays)
    ]


def as_selected(choice, width):
    """The `Selected` of chosen positions."""
    return Selected(np.isin(np.arange(width), choice))


def narrowed(weights, axes, keep, taking=None):
    """Weights with what is chosen along their axes.

    Args:
        weights: NumPy arrays.
        axes: For each, the axes that become shorter.
        keep: What `take` accepts.
        taking: Whether each takes up the factors, or the matrix, of `keep`; the others are chosen
            from. Defaults to all.
    """
    found = list(weights)
    for position, own in enumerate(axes):
        here = keep if taking is None or taking[position] else Selected(keep.mask)
        for axis in own:
            found[position] = take(found[position], axis, here)
    return found


def ways_to_take(axes):
    """Which weights may take up a factor of each channel: all that have them, or some."""
    wide = [position for position, own in enumerate(axes) if own]
    for number in range(len(wide), 0, -1) if len(wide) <= MOST_WEIGHTS else [len(wide)]:
        for some in itertools.combinations(wide, number):
            yield tuple(position in some for position in range(len(axes)))


def shapes_for(trial, axes, number):
    """The shapes of the inputs of a call, with so many channels in some, ``{position: axis}``."""
    shapes = [tuple(tensor.shape) for tensor in trial.tensors]
    for position, axis in axes.items():
        shape = shapes[position]
        shapes[position] = (*shape[:axis], number, *shape[axis + 1 :])
    return shapes


def copy_for(trial, axes, width, numbers):
    """Copies that read fewer channels, one for each of `numbers`, and the setting that it takes.

    The configuration stays as it is where a copy builds by itself; else the one entry that holds
    the number of channels is changed.

    Returns:
        A list of `Copy`s, and the name of that entry or `None`.

    Raises:
        Unlike: There is no such copy.
    """
    reasons, found = [], []
    for key in dict.fromkeys((None, key_of(trial.operation, width))):
        try:
            copies = [_copy(trial, key, axes, width, number) for number in numbers]
        except Unlike as unlike:
            told = "" if key is None else f", with {key}={numbers[0]},"
            reasons.append(f"before it{told} {unlike}")
        else:
            found.append((copies, key))
    if not found:
        raise Unlike(reasons[-1])
    # Where weights are as they were, they may not fit what the copy reads.
    return max(found, key=lambda pair: any(axes_that_shrink(trial, pair[0][0], width, numbers[0])))


def _copy(trial, key, axes, width, number):
    copy = trial.copy({} if key is None else {key: number}, shapes_for(trial, axes, number))
    axes_that_shrink(trial, copy, width, number)
    return copy


def key_of(operation, number):
    """The one entry of a configuration that holds a number; `None` for none, or several.

    Raises:
        Unlike: There is no configuration.
    """
    if not is_layer(operation):
        return None
    try:
        config = operation.get_config()
    except Exception as error:  # a user's own code may fail in any way
        raise Unlike(f"is not tried, as get_config() raises {in_words(error)}") from error
    keys = [key for key, value in config.items() if type(value) is int and value == number]
    return keys[0] if len(keys) == 1 else None


def axes_that_shrink(trial, copy, width, number):
    """For each weight, the axes along which that of the copy has `number` entries of `width`.

    Raises:
        Unlike: The copy has other weights.
    """
    before = [tuple(weight.shape) for weight in weights_of_operation(trial.operation)]
    after = copy.shapes
    fits = len(before) == len(after) and all(
        len(old) == len(new) and all(b == a or (a, b) == (width, number) for a, b in zip(old, new))
        for old, new in zip(before, after)
    )
    if not fits:
        raise Unlike(f"gives a copy for {number} of {width} with weights of other shapes")
    pairs = zip(before, after)
    return tuple(
        tuple(axis for axis, (a, b) in enumerate(zip(old, new)) if a != b) for old, new in pairs
    )
