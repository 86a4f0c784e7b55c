"""Checks of settings, with errors that say what was expected, what came and how to mend it."""

import math
import numbers


def check_number(name, value, at_least=None, above=None, below=None, at_most=None, whole=False):
    """Raise unless `value` is a finite number, or a whole one, within the bounds that are given.

    Raises:
        TypeError: Not a number.
        ValueError: Out of bounds.
    """
    bounds = [
        f"of {at_least} or more" * (at_least is not None),
        f"above {above}" * (above is not None),
        f"below {below}" * (below is not None),
        f"of at most {at_most}" * (at_most is not None),
    ]
    words = f"{'an int' if whole else 'a number'} {' and '.join(filter(None, bounds))}".strip()
    real = isinstance(value, numbers.Integral if whole else numbers.Real)
    if isinstance(value, bool) or not real:
        raise TypeError(
            f"Expected {name} to be {words}; got {value!r} of type {type(value).__name__}."
        )
    if (
        not math.isfinite(value)
        or (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
        or (at_most is not None and value > at_most)
    ):
        raise ValueError(f"Expected {name} to be {words}; got {value!r}.")
