"""EarlyRemoval: the callback that has dead channels removed while `fit` runs."""

import keras

from resrep_keras.training.early_removal.slimming import cut_dead


class EarlyRemoval(keras.callbacks.Callback):
    """Removes dead channels every few epochs; `fit` adds it where `slim_every` is set.

    Args:
        method: The method of the model.
        pruning: The `PruningCallback` of the run, in front of this callback.
    """

    def __init__(self, method, pruning):
        super().__init__()
        self._method, self._pruning = method, pruning

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._method.slim_every or self._pruning.plan is None:
            return
        pruning = self._pruning
        removed = cut_dead(self.model, pruning.channel_state, self._method, pruning.selecting)
        if removed and logs is not None:
            logs.update(pruning.report())
