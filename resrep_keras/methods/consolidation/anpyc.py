"""ANPyC: adversarial neural pruning and synaptic consolidation."""

import dataclasses

import keras
from keras import ops

from resrep_keras.common.checks import (
    check_bool,
    check_choice,
    check_number,
    check_optional,
    setting,
)
from resrep_keras.methods.consolidation.importance import classes_of, mean_over
from resrep_keras.methods.consolidation.method import Consolidation, check_importance
from resrep_keras.methods.consolidation.pruning import masks_of, percent_of, stages_of


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class ANPyC(Consolidation):
    """Holds weights by what their absence would do to the certainty of answers, and frees others.

    Importance needs no labels. With the sum `I` over a batch of the entropies of the answers, and
    `G = dI / dw`,

    ```
    importance_j = mean over batches of max(0, G_j w_j + (G_j w_j) ** 2 / 2)
    ```

    a Taylor series in the weight, whose second derivative is the square of the first. A weight of
    zero has none. Where `initial_percent` is given, `end_task` makes weights zero before importance
    is measured, in stages of ever more, and trains anew behind each: in the first task the least
    important of each variable, later only such as the tasks before did not need. The next task may
    use them.

    Args:
        strength: As in `Consolidation`.
        variant: `"released"`, the measure of the authors' code, or `"absolute"`, where the absolute
            value takes the place of the positive part. Defaults to `"released"`.
        accumulate: Whether importance is the `"sum"` over tasks or the `"max"`. Defaults to
            `"sum"`.
        initial_percent: How much of each variable the first task frees, in percent, above 0 and
            below 100; `None` prunes nothing. Defaults to `50`.
        decay: The percentage of each task is that of the one before times this, rounded down, above
            0 and up to 1. Defaults to `0.8`: 50, 40, 32, 25, 20, 16, ...
        percent_step: Stages end at each multiple of it, up to the first that is not below the
            percentage. Defaults to `10`.
        retrain_epochs: Epochs behind each stage. Defaults to `30`.
        clip_before_mean: Whether the positive part is taken of each batch, or of the mean over
            batches, where many more weights have an importance of zero. Defaults to `True`.
        importance_batch_size: Examples of a batch. Defaults to `100`.
        from_logits: Whether heads give logits. Defaults to `None`: those that end in a softmax or
            sigmoid give probabilities, and all others logits, a single one that of one class.
        heads: As in `Consolidation`.
        total_steps: As in `Consolidation`.

    Raises:
        TypeError: A setting of another kind.
        ValueError: A setting out of range.

    Example:

    >>> method = resrep_keras.ANPyC(strength=1.0, retrain_epochs=1)
    >>> model = resrep_keras.wrap(dense, method)
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> for x, y in tasks:
    ...     model.fit(x, y, epochs=10)
    ...     resrep_keras.end_task(model, x, y)

    Reference:
        Peng et al., "Overcoming Long-term Catastrophic Forgetting through Adversarial Neural
        Pruning and Synaptic Consolidation", IEEE Transactions on Neural Networks and Learning
        Systems, 2021.

    Note:
        Removing a weight changes `I` by `-G w + (G w) ** 2 / 2`; the authors' code, and with it
        `"released"`, has the other sign of the first term. The code leaves out the last example of
        each batch, and takes the logarithm of probabilities that may underflow; this does neither.
    """

    variant: str = setting("released", check_choice, known=("released", "absolute"))
    accumulate: str = setting("sum", check_choice, known=("sum", "max"))
    initial_percent: float | None = setting(
        50, check_optional, check=check_number, above=0, below=100
    )
    decay: float = setting(0.8, check_number, above=0, at_most=1)
    percent_step: int = setting(10, check_number, at_least=1, at_most=100, whole=True)
    retrain_epochs: int = setting(30, check_number, at_least=0, whole=True)
    clip_before_mean: bool = setting(True, check_bool)
    importance_batch_size: int = setting(100, check_number, at_least=1, whole=True)
    from_logits: bool | None = setting(None, check_bool)

    @property
    def prunes(self):
        return self.initial_percent is not None

    def measure(self, model, wrapper, data):
        classes = classes_of(model, self.from_logits)
        each, mean = (self._bounded, _same) if self.clip_before_mean else (_same, self._bounded)
        found = mean_over(
            data,
            self.importance_batch_size,
            lambda outputs, labels: classes.entropy(outputs),
            lambda gradient, weights: each(change_of(gradient, weights)),
            model,
            [held.variable for held in wrapper.held],
        )
        return [mean(change) for change in found]

    def _bounded(self, change):
        return ops.abs(change) if self.variant == "absolute" else ops.maximum(change, 0)

    def free(self, model, wrapper, data, retrain):
        if not self.prunes:
            return
        percent = percent_of(wrapper.task_number, self.initial_percent, self.decay)
        for stage in stages_of(percent, self.percent_step):
            scores = self.measure(model, wrapper, data)
            check_importance(scores, wrapper)
            wrapper.set_masks(masks_of(wrapper, scores, stage))
            if self.retrain_epochs:
                retrain(self.retrain_epochs)


def change_of(gradient, weights):
    """What the loss changes by with a weight, by a Taylor series; an elementwise array."""
    first = gradient * weights
    return first + ops.square(first) / 2


def _same(change):
    return change
