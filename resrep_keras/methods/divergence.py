"""Whether training has diverged: weights that are no numbers can be ranked by nobody."""

import keras
from keras import ops


def not_finite(trainable, others=()):
    """Paths of the variables that hold NaN, or infinity where they are trained.

    Others may hold infinities of the user's own, such as those of a mask.
    """
    finite = [v.path for v in trainable if _is_float(v) and not bool(ops.all(ops.isfinite(v)))]
    return finite + [v.path for v in others if _is_float(v) and bool(ops.any(ops.isnan(v)))]


def diverged(names, step=None):
    """What is told, in words, where the variables of these paths are not finite."""
    shown = ", ".join(f"'{name}'" for name in names[:3]) + ", ..." * (len(names) > 3)
    when = "" if step is None else f" at step {step}"
    return (
        f"The training has diverged{when}: {shown} hold NaN or infinite values, by which no "
        "channel or weight can be chosen. Lower the learning rate, clip gradients, or look for NaN "
        "in the data, and start again."
    )


def check_finite(model, step):
    """Raise where a model that trains has diverged.

    A step that a loss scale left out because its gradients overflowed has changed no weight.

    Raises:
        ValueError: A trained variable is not finite.
    """
    names = not_finite(model.trainable_variables)
    if names:
        raise ValueError(diverged(names, step))


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)
