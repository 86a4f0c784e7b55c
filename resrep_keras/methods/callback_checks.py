"""Which callbacks of Keras would undo a pruning run, and what to do instead.

Accuracy is best before channels are forgotten. What picks an epoch by accuracy picks a model that
is not pruned.
"""

import functools
import warnings

import keras


@functools.singledispatch
def unpruned_choice(callback, pruned_from):
    """What a callback could do that leaves an unpruned model, and the remedy; `None` if nothing.

    Args:
        callback: A `keras.callbacks.Callback`.
        pruned_from: The first epoch, counted from 0, at whose end the target is met.
    """
    del callback, pruned_from
    return None


@unpruned_choice.register
def _early_stopping(callback: keras.callbacks.EarlyStopping, pruned_from):
    first = callback.start_from_epoch
    # The first epoch is the best so far; with a baseline it may count against patience, too.
    stop = first + max(1, callback.patience - (callback.baseline is not None))
    if callback.restore_best_weights and first < pruned_from:
        danger = "would restore the weights of"
    elif stop < pruned_from:
        danger = "could stop at"
    else:
        return None
    return danger, (
        f"Give EarlyStopping(start_from_epoch={pruned_from}), or let the run end and keep its best "
        "pruned model with resrep_keras.PrunedCheckpoint."
    )


@unpruned_choice.register
def _model_checkpoint(callback: keras.callbacks.ModelCheckpoint, pruned_from):
    del pruned_from
    if not callback.save_best_only:
        return None
    return (
        "(save_best_only=True) would keep the model of",
        "Use resrep_keras.PrunedCheckpoint, which keeps the best of the pruned ones.",
    )


@functools.singledispatch
def goes_on(callback):
    """Whether a callback brings back where an earlier `fit` was when it was killed.

    Args:
        callback: A `keras.callbacks.Callback`.
    """
    del callback
    return False


@goes_on.register
def _backup_and_restore(callback: keras.callbacks.BackupAndRestore):
    del callback
    return True


def warn_of_unpruned_choices(callbacks, pruned_from):
    """Warn of each callback that could leave a model that is not pruned."""
    for callback in callbacks:
        choice = unpruned_choice(callback, pruned_from)
        if choice is not None:
            danger, remedy = choice
            warnings.warn(
                f"{type(callback).__name__} {danger} an epoch before the target is met, when "
                "accuracy is best and nothing is pruned yet. The target is met at the end of epoch "
                f"{pruned_from}, counted from 0. {remedy}",
                stacklevel=2,
            )


def refuse_averages(callbacks):
    """Raise where a callback swaps in running averages of the weights."""
    if any(isinstance(callback, keras.callbacks.SwapEMAWeights) for callback in callbacks):
        raise ValueError(
            "SwapEMAWeights swaps in running averages of the weights, in which forgotten channels "
            "live on. Leave it out while pruning; average the slim model."
        )


def refuse_early_removal(method):
    """Raise where a method removes channels while the model trains, outside of `fit`."""
    if method.slim_every is not None:
        raise ValueError(
            "slim_every swaps the variables of the model, which only the fit() of a model made by "
            "resrep_keras.wrap can follow. Set slim_every=None in a training loop of your own."
        )
