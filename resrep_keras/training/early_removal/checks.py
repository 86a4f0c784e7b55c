"""What cannot go with the removal of channels while `fit` runs, and what to do instead."""

import functools

import keras

from resrep_keras.keras_adapter import number_of_replicas


@functools.singledispatch
def wide_weights(callback):
    """What a callback does with weights that no longer fit, and the remedy; `None` if nothing.

    Register a callback of your own that brings weights of an earlier epoch back.
    """
    del callback
    return None


@wide_weights.register(keras.callbacks.BackupAndRestore)
def weights_only(callback):
    """What is said of a callback that keeps the weights of a run alone."""
    del callback
    return (
        " keeps weights only, which fit no model of other widths, so that a run cannot be resumed "
        "after slim_every has removed channels",
        "Set slim_every=None, or save the whole model with ModelCheckpoint('model.keras').",
    )


@wide_weights.register
def _early_stopping(callback: keras.callbacks.EarlyStopping):
    if not callback.restore_best_weights:
        return None
    return (
        "(restore_best_weights=True) brings back weights from before slim_every removed channels",
        "Set restore_best_weights=False or slim_every=None.",
    )


def check_run(model, callbacks):
    """Raise where `slim_every` cannot go with how `fit` is called.

    Raises:
        ValueError: Names what to leave out.
    """
    if number_of_replicas(model) > 1 or keras.distribution.distribution() is not None:
        raise ValueError(
            "slim_every removes channels from the model of one process on one device; this one is "
            "distributed. Set slim_every=None; finalize() removes the channels at the end."
        )
    for callback in callbacks:
        problem = wide_weights(callback)
        if problem is not None:
            what, remedy = problem
            raise ValueError(f"{type(callback).__name__}{what}. {remedy}")
