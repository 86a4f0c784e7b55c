"""FPGM: removal of the channels that the others of their layer can stand in for."""

import dataclasses

import keras

from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.methods.channels.scores import kernel_distance, score_weights


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class FPGM(OneShot):
    """Filter pruning via geometric median: removes the most replaceable channels, not the smallest.

    With the weights `w_i` that make channel `i` of a layer, its score is the sum of distances

    ```
    score_i = sum_j ||w_i - w_j||
    ```

    divided by the layer's mean. It is smallest near the geometric median of all `w_j`.

    Args:
        at: Share of the run before the selection. Defaults to `0`: before the first step.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Example:

    >>> slim = resrep_keras.FPGM(target_reduction=0.5).prune(dense)

    Reference:
        He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
        Acceleration", CVPR 2019, equation 7.

    Note:
        The paper prunes each layer by the same share, again after each epoch. Here the selection is
        global, and made once.
    """

    def scores(self, channel_state, optimizer=None):
        """Mean over a channel's producers; kept to the last where no weights are known."""
        return score_weights(channel_state.graph, kernel_distance)
