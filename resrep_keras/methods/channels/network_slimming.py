"""NetworkSlimming: sparsity of batch-normalisation scales says which channels may go."""

import dataclasses
import typing

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.methods.channels.lasso_training import LassoTraining
from resrep_keras.methods.channels.scores import mean_over


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class NetworkSlimming(LassoTraining):
    """Trains with an L1 penalty on the scales of batch normalisation, then removes the smallest.

    Until the selection each scale `gamma` behind a prunable layer gets

    ```
    dL/dgamma + strength * sign(gamma)
    ```

    as its gradient, which the optimizer treats like that of a loss. The score is `|gamma|`,
    sorted globally.

    Args:
        at: Share of the run with the penalty, before the selection. A run of a few epochs needs the
            rest to recover. Defaults to `0.2`.
        strength: Strength of the penalty, 0 or larger; 1e-4 is the paper's for ResNet and DenseNet,
            in 160 epochs. Or `None` for the strength that would, where nothing holds it, shrink a
            scale by 0.3 until the selection, under SGD; under other optimizers 1e-3. Defaults to
            `None`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Raises:
        ValueError: Before the first step, where the target needs channels that no scaled batch
            normalisation follows.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.NetworkSlimming(0.5))

    Reference:
        Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017,
        equation 1.
    """

    planned_pull: typing.ClassVar[float] = 0.3

    def penalised(self, channel_state):
        return [(gamma, 0) for gamma, _ in scales_of(channel_state)]

    def scores(self, channel_state, optimizer=None):
        """Mean of the magnitudes of a channel's scales; kept to the last where it has none."""
        parts = [
            (ids, np.abs(ops.convert_to_numpy(gamma))) for gamma, ids in scales_of(channel_state)
        ]
        return mean_over(parts, channel_state.graph.num_channels)

    def check(self, channel_state, plan, last, optimizer):
        super().check(channel_state, plan, last, optimizer)
        scores = self.scores(channel_state)
        kept = self.choose(channel_state, scores)
        without = [
            g.name
            for g in channel_state.groups
            if np.isinf(scores[g.channels][~kept[g.channels]]).any()
        ]
        if without:
            raise ValueError(
                "NetworkSlimming scores channels by the scale of the batch normalisation behind "
                f"their layer, and the target needs channels of {', '.join(without[:5])}, which "
                "have none. Lower target_reduction, exclude these layers, or choose another method."
            )


def scales_of(channel_state):
    """Pairs of a scale and its channel ids: of the batch normalisations before compactors."""
    layer_of = channel_state.graph.calls_by_name
    sites = [site for group in channel_state.groups for site in group.sites]
    found = {site.layer: (layer_of[site.layer].operation, site.channels) for site in sites}
    return [
        (layer.gamma, channels)
        for layer, channels in found.values()
        if isinstance(layer, layers.BatchNormalization) and layer.scale
    ]
