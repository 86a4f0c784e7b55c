"""MAS: memory aware synapses."""

import dataclasses

import keras
from keras import ops

from resrep_keras.common.checks import check_number, check_optional, setting
from resrep_keras.methods.consolidation.importance import mean_over
from resrep_keras.methods.consolidation.method import Consolidation


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class MAS(Consolidation):
    """Holds a weight by how far the outputs move with it; no labels are read.

    ```
    importance_j = mean over examples of |d (||f(x)||_2 ** 2) / d w_j|
    ```

    with the outputs `f(x)` as the head gives them, one example at a time, summed over tasks.

    Args:
        strength: As in `Consolidation`.
        samples: How many examples are looked at, the first of the data; `None` is all of them.
            Defaults to `1000`.
        heads: As in `Consolidation`.
        total_steps: As in `Consolidation`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.MAS(strength=0.1))

    Reference:
        Aljundi et al., "Memory Aware Synapses: Learning what (not) to forget", ECCV 2018.
    """

    samples: int | None = setting(1000, check_optional, check=check_number, at_least=1, whole=True)

    def measure(self, model, wrapper, data):
        return mean_over(
            data,
            1,
            lambda outputs, labels: ops.sum(ops.square(ops.cast(outputs, "float32"))),
            lambda gradient, weights: ops.abs(gradient),
            model,
            [each.variable for each in wrapper.held],
            self.samples,
        )
