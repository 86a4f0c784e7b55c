"""TaylorPruning: removal of the channels whose absence would change the loss the least."""

import dataclasses

import keras
import numpy as np

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.channels.fisher import check_loss, fisher_scores
from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.methods.channels.scores import per_cost, savings, sum_over
from resrep_keras.optimizers.taylor import TaylorOptimizer


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class TaylorPruning(OneShot):
    """Scores a channel by the first-order estimate of what its removal does to the loss, squared.

    A gate `z_i` of 1 stands behind each channel, at its compactor. With the gradient of the loss of
    each step until the selection,

    ```
    score_i = sum over steps of (dL/dz_i * z_i) ** 2
    ```

    which needs no forward or backward pass of its own. `prune(model, data=...)` measures the same
    on examples, one by one, without training.

    Args:
        at: Share of the run over which gradients are watched before the selection, in (0, 1).
            Defaults to `0.1`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Raises:
        ValueError: `at` is 0, so that no gradient would be seen.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.TaylorPruning(target_reduction=0.5))

    Reference:
        Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8,
        with gates behind the batch normalisation.

    Note:
        The paper divides by the number of steps, which changes no ranking, and removes a few
        channels at a time. Coupled channels add up the scores of the gates behind the layers that
        make them. A diagonal compactor further on, behind a depthwise layer, say, sees the same
        removal again, and is not counted.
    """

    at: float = setting(0.1, check_number, above=0, below=1)

    trained_by = TaylorOptimizer

    def check(self, channel_state, plan, last, optimizer):
        super().check(channel_state, plan, last, optimizer)
        channel_state.check_trained()

    def check_examples(self, model, examples):
        check_loss(model, examples)
        examples.check()

    def scores_on(self, channels, model, examples):
        """Roots of the Fisher scores, divided by the share of the cost that a channel stands for.

        By the scores alone a narrow layer whose channels cost much is kept, and a wide one goes.
        """
        limits = self.limits(channels)
        saved = savings(channels.graph.num_channels, channels.groups, limits)
        return per_cost(np.sqrt(fisher_scores(channels, model, examples)), saved)

    def scores(self, channel_state, optimizer=None):
        if optimizer is None:
            raise ValueError(
                "TaylorPruning measures its scores in training, and has none of an untrained copy. "
                "Expected resrep_keras.wrap(model, TaylorPruning()), then fit and finalize; or "
                "data on which they are measured without training: prune(model, data=(x, y))."
            )
        changes = [
            (ids, optimizer.squared_changes(layer.kernel))
            for layer, ids in channel_state.behind_producers
        ]
        return sum_over(changes, channel_state.graph.num_channels)
