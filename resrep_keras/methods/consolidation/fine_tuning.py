"""FineTuning: one task after the other, with nothing held."""

import dataclasses

import keras
from keras import ops

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.consolidation.method import Consolidation


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class FineTuning(Consolidation):
    """Trains as Keras does: what later tasks do not need is forgotten. The baseline of the others.

    Args:
        strength: 0, or left out.
        heads: As in `Consolidation`.
        total_steps: As in `Consolidation`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.FineTuning())
    """

    strength: float = setting(0.0, check_number, at_least=0, at_most=0)

    def measure(self, model, wrapper, data):
        return [ops.zeros_like(each.importance.value) for each in wrapper.held]
