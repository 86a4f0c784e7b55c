"""FrozenCompactorsOptimizer: the user's optimizer, while compactors stay as they are."""

import keras

from resrep_keras.optimizers.penalty import split_compactors
from resrep_keras.optimizers.wrapper import OptimizerWrapper


@keras.saving.register_keras_serializable("resrep_keras")
class FrozenCompactorsOptimizer(OptimizerWrapper):
    """Trains everything but compactors, for methods that switch channels off instead of shrinking.

    A subclass may read the gradients of compactors, which are those of a factor before each
    channel, and add terms to the gradients of other variables.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` (or its name) for all other variables.
        name: Name of the optimizer.
    """

    allows_averages = True  # compactors, which hold the zeros, are in no average

    def make_state(self, variables):
        self.inner_optimizer.build(split_compactors(variables)[1])

    def update_variables(self, grads, variables):
        _, rest = split_compactors(list(zip(grads, variables)), variables)
        if rest:
            self.inner_optimizer.apply(*(list(column) for column in zip(*rest)))

    def finalize_variable_values(self, var_list):
        """Where the inner optimizer has `use_ema`, let its averages take the variables' place."""
        self.inner_optimizer.finalize_variable_values(split_compactors(var_list)[1])
