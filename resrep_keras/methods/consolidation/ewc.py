"""EWC: elastic weight consolidation."""

import dataclasses

import keras
from keras import ops

from resrep_keras.common.checks import check_bool, check_number, check_optional, setting
from resrep_keras.methods.consolidation.importance import classes_of, mean_over
from resrep_keras.methods.consolidation.method import Consolidation


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class EWC(Consolidation):
    """Holds a weight by the Fisher information that the labels of a task give about it.

    ```
    importance_j = mean over examples of (d log p(y | x) / d w_j) ** 2
    ```

    one example at a time, with its own label, summed over tasks.

    Args:
        strength: As in `Consolidation`.
        samples: How many examples are looked at, the first of the data; `None` is all of them.
            Defaults to `1000`.
        from_logits: Whether heads give logits. Defaults to `None`: those that end in a softmax or
            sigmoid give probabilities, and all others logits, a single one that of one class.
        heads: As in `Consolidation`.
        total_steps: As in `Consolidation`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.EWC(strength=10))
    >>> for x, y in tasks:
    ...     model.fit(x, y, epochs=10)
    ...     resrep_keras.end_task(model, x, y)

    Reference:
        Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017.

    Note:
        The paper has a factor of one half before the strength, and a penalty of its own for each
        task; here all pull to the weights after the last one, with the sum of their importance.
    """

    samples: int | None = setting(1000, check_optional, check=check_number, at_least=1, whole=True)
    from_logits: bool | None = setting(None, check_bool)

    reads_labels = True

    def measure(self, model, wrapper, data):
        classes = classes_of(model, self.from_logits)
        return mean_over(
            data,
            1,
            classes.log_likelihood,
            lambda gradient, weights: ops.square(gradient),
            model,
            [each.variable for each in wrapper.held],
            self.samples,
        )
