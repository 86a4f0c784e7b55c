"""TaylorOptimizer: reads from the gradients of compactors what a channel is worth to the loss."""

import keras
import numpy as np
from keras import ops

from resrep_keras.keras_adapter import place_of_variable
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer
from resrep_keras.optimizers.penalty import split_compactors
from resrep_keras.optimizers.wrapper import Companion


class _SquaredChanges(Companion):
    """Sums up, for each column of a kernel, the squared first-order change that its removal makes.

    It changes no variable. Accumulated gradients are not its business: the batch of each step
    counts by itself.
    """

    def __init__(self, keep, **kwargs):
        super().__init__(learning_rate=0.0, name="squared_changes", **kwargs)
        self._keep = keep

    def build(self, variables):
        super().build(variables)
        sums = [
            self._keep(f"{v.path}_squared", v.shape, v.dtype, "zeros", "none") for v in variables
        ]
        self._sums = lambda: sums  # else Keras would list them here, too

    def sums(self, variable):
        """The sums of a kernel."""
        return self._sums()[place_of_variable(self, variable)]

    def update_step(self, gradient, variable, learning_rate):
        del learning_rate
        sums = self.sums(variable)
        change = ops.cast(gradient, sums.dtype) * ops.cast(variable, sums.dtype)
        self.assign_add(sums, ops.square(change))


@keras.saving.register_keras_serializable("resrep_keras")
class TaylorOptimizer(FrozenCompactorsOptimizer):
    """Holds compactors, and sums up `(gradient * value) ** 2` of each over the steps.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` (or its name) for all other variables.
        name: Name of the optimizer.

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8.
    """

    observer = None  # while the base class sets itself up

    def __init__(self, inner_optimizer, name=None):
        super().__init__(inner_optimizer, name=name)
        self.observer = _SquaredChanges(self.keep, scale=lambda: self.loss_scale_factor)

    def make_state(self, variables):
        super().make_state(variables)
        self.observer.build(split_compactors(variables)[0])

    def update_variables(self, grads, variables):
        compactors, _ = split_compactors(list(zip(grads, variables)), variables)
        seen = [(gradient, variable) for gradient, variable in compactors if gradient is not None]
        if seen:
            self.observer.apply(*(list(column) for column in zip(*seen)))
        super().update_variables(grads, variables)

    def squared_changes(self, kernel):
        """The sums of a diagonal compactor, float64 `(channels,)`."""
        return np.asarray(ops.convert_to_numpy(self.observer.sums(kernel)), np.float64)

    @property
    def variables(self):
        return super().variables + self.observer.variables
