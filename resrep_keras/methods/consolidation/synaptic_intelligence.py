"""SynapticIntelligence: importance that is measured while a task is learned."""

import dataclasses

import keras
from keras import ops

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.consolidation.method import Consolidation


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class SynapticIntelligence(Consolidation):
    """Holds a weight by its share in the fall of the loss while the task was learned.

    ```
    omega_j      = sum over the steps of a task of -dL/dw_j * (change of w_j)
    importance_j = max(0, omega_j) / ((change of w_j over the task) ** 2 + damping)
    ```

    summed over tasks, with the gradient of the objective alone, without the penalty. No data are
    read at the end of a task.

    Args:
        strength: As in `Consolidation`.
        damping: What bounds the importance of a weight that did not move, above 0. Defaults to
            `0.1`.
        heads: As in `Consolidation`.
        total_steps: As in `Consolidation`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.SynapticIntelligence(strength=1.0))

    Reference:
        Zenke et al., "Continual Learning Through Synaptic Intelligence", ICML 2017.
    """

    damping: float = setting(0.1, check_number, above=0)

    integrates = True

    def measure(self, model, wrapper, data):
        found = []
        for each in wrapper.held:
            integral = wrapper.integral.integral(each.variable)
            moved = ops.cast(each.variable, integral.dtype) - each.reference
            found.append(ops.maximum(integral, 0) / (ops.square(moved) + self.damping))
        return found
