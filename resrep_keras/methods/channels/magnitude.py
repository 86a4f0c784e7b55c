"""MagnitudePruning: removal of the channels with the smallest weights."""

import dataclasses

import keras

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.methods.channels.scores import kernel_norm, score_weights


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class MagnitudePruning(OneShot):
    """Removes, in one go, the channels whose kernels have the smallest norm.

    What the field compares with. No training is needed to prune: `prune` returns the slim model,
    and fine-tuning is left to you; a wrapped model is fine-tuned by `fit`.

    Args:
        at: Share of the run before the selection. Defaults to `0`: before the first step.
        order: 1 or 2, the norm. Defaults to `1`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Example:

    >>> slim = resrep_keras.MagnitudePruning(target_reduction=0.5).prune(dense)

    Reference:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.

    Note:
        The paper prunes each layer by a share of its own. Here norms are divided by their layer's
        mean and sorted globally, so that the target is a share of the whole model's cost.
    """

    order: int = setting(1, check_number, at_least=1, at_most=2, whole=True)

    def scores(self, channel_state, optimizer=None):
        """Mean over a channel's producers of their normalised kernel norms.

        Channels of a layer without `kernel`, and without a rule in `producing_weights`, are
        kept to the last.
        """
        return score_weights(channel_state.graph, lambda kernel: kernel_norm(kernel, self.order))
