"""EarlyRemovalCallback: it has dead channels removed while `fit` runs."""

import warnings

import keras

from resrep_keras.methods.callback import InFit
from resrep_keras.surgery.forward import explain_difference
from resrep_keras.training.early_removal.removal import (
    TRAINING_TOLERANCE,
    remove_early,
    worthwhile,
)
from resrep_keras.training.early_removal.sample import sample_inputs


class EarlyRemovalCallback(InFit, keras.callbacks.Callback):
    """Removes dead channels at the end of epochs; `fit` adds it where `slim_every` is set.

    Args:
        pruning: The `PruningCallback` of the run, which stands in front of this one.
    """

    def __init__(self, pruning):
        super().__init__()
        self._pruning = pruning

    def on_epoch_end(self, epoch, logs=None):
        pruning = self._pruning
        due = pruning.plan is not None and (epoch + 1) % pruning.method.slim_every == 0
        if due and self._remove(pruning) and logs is not None:
            logs.update(pruning.report())

    def _remove(self, pruning):
        """Remove the dead channels where it pays; returns whether it was done."""
        state = pruning.channel_state
        removal = worthwhile(state, pruning.method, pruning.selecting)
        if removal is None:
            return False
        inputs = sample_inputs(self.fit_call.data.x)
        if inputs is None:
            warnings.warn(
                f"The dead channels of model '{self.model.name}' are not removed in training: "
                "slim_every looks at a batch of the data, which a generator gives once. Give fit() "
                "arrays, a tf.data.Dataset or a PyDataset; finalize() removes the channels at the "
                "end.",
                stacklevel=2,
            )
            return False
        difference, done, dropped = remove_early(
            self.model, state, *removal, inputs, TRAINING_TOLERANCE
        )
        if dropped:
            names = ", ".join(f"{setting} of '{layer}'" for layer, setting in dropped)
            warnings.warn(
                f"The dead channels of model '{self.model.name}' are not removed in training: "
                f"{names} would not hold on the weights that are left. Training goes on without, "
                "and finalize() removes the channels at the end.",
                stacklevel=2,
            )
        if difference is not None and not done:
            warnings.warn(
                f"The dead channels of model '{self.model.name}' were not removed in training: "
                f"outputs would differ by {difference:.2g} of the largest. Training goes on "
                f"without; finalize() removes them at the end.{explain_difference(difference)}",
                stacklevel=2,
            )
        return done
