"""What a function does to channels: it is tried on arrays.

A function that raises, or answers with no finite number, has shown nothing: the error goes to the
caller, and is remembered nowhere.
"""

import dataclasses
import functools
import re

import keras
import numpy as np
from keras import ops

from resrep_keras.common.eager import eagerly
from resrep_keras.graph.labels import State

# Two widths, so that a function that knows the width of its input shows it.
WIDTHS = (8, 5)


@dataclasses.dataclass(frozen=True)
class Tried:
    """What trying a function has shown.

    Args:
        pointwise: Whether choosing channels before and after it gives the same.
        zeros: The `State` that zeros are in behind it; `None` where they become no finite number.
    """

    pointwise: bool
    zeros: State | None


def try_function(function, shape=(None, None), axes=(-1,)):
    """Try a function on arrays.

    Args:
        function: Takes and returns one tensor.
        shape: The shape that it is called with; `None` for unknown sizes.
        axes: Axes along which channels lie.

    Returns:
        What it has shown, a `Tried`.

    Raises:
        Exception: Whatever `function` raises; a `ValueError` where it gives no finite number.
    """
    axes = tuple(axis % len(shape) for axis in axes)
    small = tuple(2 if size is None else min(size, 2) for size in (None, *shape[1:]))
    tried = _try_known if _is_of_keras(function) else _try
    try:
        return tried(function, small, axes)
    except Exception:  # a function of the user's may fail in any way
        if None in shape[1:] or shape[1:] == small[1:]:
            raise
    return tried(function, (2, *shape[1:]), axes)  # it may know the sizes of its input


def commutes_with_selection(function, shape=(None, None), axis=-1):
    """Whether choosing channels before and after `function` gives the same.

    Raises:
        Exception: See `try_function`.
    """
    axis %= len(shape)
    shape = tuple(2 if size is None else size for size in shape)
    for seed, width in enumerate(WIDTHS):
        here = (*shape[:axis], width, *shape[axis + 1 :])
        normal = np.random.default_rng(seed).normal(size=here).astype("float32")
        # Roots and logarithms of negative numbers are NaN on both sides, and say nothing alone.
        answers = (_commutes(function, x, axis) for x in (normal, abs(normal) + np.float32(0.5)))
        answer = next((answer for answer in answers if answer is not None), None)
        if answer is None:
            raise ValueError("it gives no finite number, neither for normal nor positive numbers")
        if not answer:
            return False
    return True


def keeps_zero(function):
    """Whether ``function(0) == 0``."""
    return bool((_value(function, np.zeros((1, 2), "float32")) == 0).all())


def _commutes(function, x, axis):
    """Whether it does on one array; `None` where no value is finite."""
    chosen = [1, 2, x.shape[axis] - 1]
    whole = _value(function, x)
    part = _value(function, x.take(chosen, axis))
    if whole.shape != x.shape:
        return False
    whole = whole.take(chosen, axis)
    if not np.isfinite(whole).any():
        return None
    return whole.shape == part.shape and np.allclose(whole, part, atol=1e-6, equal_nan=True)


def _zeros(function, shape):
    """The `State` of what was zero."""
    values = _value(function, np.zeros(shape, "float32"))
    if not np.isfinite(values).all():
        return None
    if (values == 0).all():
        return State.ZERO
    return State.CONSTANT if (values == values.flat[0]).all() else State.FIXED


def _value(function, x):
    with eagerly():  # also where a traced step asks
        return ops.convert_to_numpy(function(ops.convert_to_tensor(x)))


def _try(function, shape, axes):
    if not all(commutes_with_selection(function, shape, axis) for axis in axes):
        return Tried(False, None)
    return Tried(True, _zeros(function, shape))


_try_known = functools.cache(_try)  # of functions that live as long as the process; no errors


def _is_of_keras(function):
    return any(function is known for known in vars(keras.activations).values())


def in_words(error, longest=160):
    """An exception as one line: its class, and the first line of what it says.

    Keras puts a line before it that names the layer, and gives it a colour.
    """
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception encountered when")]
    first = next(iter(told), "")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
