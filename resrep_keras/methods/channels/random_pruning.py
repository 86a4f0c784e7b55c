"""RandomPruning: what every criterion has to beat."""

import dataclasses

import keras
import numpy as np

from resrep_keras.common.checks import check_number, setting
from resrep_keras.methods.channels.one_shot import OneShot


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class RandomPruning(OneShot):
    """Removes channels drawn at random, all with the same chance.

    What fine-tuning alone is worth at a given cost: a criterion that is no better says nothing.

    Args:
        at: Share of the run before the selection. Defaults to `0`: before the first step.
        seed: Seed of the draw, an int of 0 or more; the same seed removes the same channels.
            Defaults to `0`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Example:

    >>> slim = resrep_keras.RandomPruning(target_reduction=0.5, seed=1).prune(dense)

    Reference:
        Mittal et al., "Recovering from Random Pruning: On the Plasticity of Deep Convolutional
        Neural Networks", WACV 2018.
    """

    seed: int = setting(0, check_number, at_least=0, whole=True)

    def scores(self, channel_state, optimizer=None):
        """Uniform random numbers in [0, 1)."""
        return np.random.default_rng(self.seed).uniform(size=channel_state.graph.num_channels)
