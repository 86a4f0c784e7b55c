"""GroupLasso: the penalty on the kernels themselves, which ResRep argues against."""

import dataclasses

import keras

from resrep_keras.graph.flow import rule_of
from resrep_keras.methods.channels.lasso_training import LassoTraining
from resrep_keras.methods.channels.scores import kernel_norm, score_weights
from resrep_keras.surgery.channel_weights import producing_variable


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class GroupLasso(LassoTraining):
    """Trains with a group lasso on the kernels of prunable layers, then removes the smallest.

    Until the selection the `n` weights `w_i` that make channel `i` get

    ```
    dL/dw_i + strength * sqrt(n) * w_i / ||w_i||
    ```

    as their gradient, which the optimizer treats like that of a loss. The score is `||w_i||`,
    divided by the layer's mean.

    Args:
        at: Share of the run with the penalty, before the selection. Defaults to `0.5`.
        strength: Strength of the penalty, 0 or larger. Defaults to `1e-4`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.GroupLasso(strength=3e-4))

    Reference:
        Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, equation
        5, over filters.

    Note:
        The paper has a strength for each layer and no factor `sqrt(n)`. The factor, which is that
        of Yuan and Lin (2006), lets one strength do for layers of many and of few weights a
        channel. Norms are compared within their layer, as in `MagnitudePruning`: before a batch
        normalisation the scale of a whole layer is free, and a short run would remove whole layers
        for it. Layers whose weights are more than one variable (recurrent ones) are scored, but not
        penalised.
    """

    strength: float = 1e-4

    def penalised(self, channel_state):
        operations = {call.name: call.operation for call in channel_state.graph.calls}
        found = []
        for group in channel_state.groups:
            for producer in group.producers:
                layer = operations[producer.layer]
                pair = rule_of(producing_variable, layer)(layer, producer.inside)
                if pair is not None and not producer.follows:
                    found.append(pair)
        return found

    def scores(self, channel_state, optimizer=None):
        """Mean over a channel's producers of their normalised kernel norms."""
        return score_weights(channel_state.graph, lambda kernel: kernel_norm(kernel, 2))
