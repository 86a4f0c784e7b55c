"""What callbacks count, so that a run that is resumed goes on counting."""

import functools

import keras
import numpy as np


@functools.singledispatch
def counters(callback):
    """Names of the attributes in which a callback counts, numbers or lists of arrays.

    Register your own: ``counters.register(MyCallback, lambda callback: ("best",))``.
    """
    del callback
    return ()


@counters.register
def _early_stopping(callback: keras.callbacks.EarlyStopping):
    return ("best", "wait", "best_epoch", "stopped_epoch", "best_weights")


@counters.register
def _plateau(callback: keras.callbacks.ReduceLROnPlateau):
    return ("best", "wait", "cooldown_counter")


@counters.register
def _checkpoint(callback: keras.callbacks.ModelCheckpoint):
    return ("best",)


def _named_counters(callbacks):
    """Triples `(callback, attribute, key in the file)`."""
    for position, callback in enumerate(callbacks):
        for name in counters(callback):
            yield callback, name, f"{position}.{type(callback).__name__}.{name}"


def read_counters(callbacks):
    """What callbacks have counted so far, by name, as `numpy.savez` takes it."""
    values = {}
    for callback, name, key in _named_counters(callbacks):
        value = getattr(callback, name)
        if isinstance(value, (list, tuple)):
            values.update({f"{key}.{number}": array for number, array in enumerate(value)})
        elif value is not None:
            values[key] = value
    return values


def restore_counters(callbacks, path):
    """Let callbacks go on with the counts that `read_counters` gave, from an `.npz` file."""
    with np.load(path) as values:
        for callback, name, key in _named_counters(callbacks):
            arrays = [k for k in values.files if k.startswith(f"{key}.")]
            if key in values.files:
                setattr(callback, name, values[key].item())
            elif arrays:
                setattr(callback, name, [values[f"{key}.{n}"] for n in range(len(arrays))])
