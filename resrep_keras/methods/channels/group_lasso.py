"""GroupLasso: the penalty on the kernels themselves, which ResRep argues against."""

import dataclasses

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import check_number, setting
from resrep_keras.graph.flow import rule_of
from resrep_keras.methods.channels.lasso_training import LassoTraining
from resrep_keras.methods.channels.network_slimming import scales_of
from resrep_keras.methods.channels.scores import (
    by_layer_mean,
    kernel_norm,
    mean_over,
    score_weights,
)
from resrep_keras.optimizers.lasso import GroupNormOptimizer, LassoOptimizer
from resrep_keras.surgery.channel_weights import producing_variable, reading_variable


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

    With `growth`, it is the sparse training of DepGraph: a channel's group is all that would go
    with it, the weights that make it, scale it behind a batch normalisation, and read it. With
    `n_i` the root of the mean, over these parts, of their squared norms, each `w` of them gets

    ```
    dL/dw + strength * 2 ** (growth * (max n - n_i) / (max n - min n)) * w
    ```

    where largest and smallest are those of the layer: what is small is pressed down harder. The
    score is `n_i`, divided by the layer's mean.

    Args:
        at: Share of the run with the penalty, before the selection. A run of a few epochs needs the
            rest to recover. Defaults to `0.2`.
        strength: Strength of the penalty, 0 or larger; or `None` for the strength that would, where
            nothing holds it, shrink a root mean square by 0.02 until the selection (with `growth`,
            the largest channel by a share of 0.15), under SGD; under other optimizers 1e-3.
            Defaults to `None`.
        growth: How much harder the smallest channel of a layer is pressed than the largest, as a
            power of 2; 4 in the paper. Defaults to `None`: a group lasso.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.GroupLasso(growth=4))

    Reference:
        Wen et al., "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016, equation
        5, over filters. With `growth`: Fang et al., "DepGraph: Towards Any Structural Pruning",
        CVPR 2023, equation 4.

    Note:
        Wen et al. have a strength for each layer and no factor `sqrt(n)`. The factor, which is that
        of Yuan and Lin (2006), lets one strength do for layers of many and of few weights a
        channel. Norms are compared within their layer, as in `MagnitudePruning`: before a batch
        normalisation the scale of a whole layer is free, and a short run would remove whole layers
        for it. Layers whose weights are more than one variable (recurrent ones) are scored, but not
        penalised. With `growth`, sizes are norms, as in the authors' code, where the equation has
        squared ones; biases are in no group.
    """

    growth: float | None = setting(None, check_number, at_least=0)

    @property
    def planned_pull(self):
        return 0.02 if self.growth is None else 0.15

    @property
    def trained_by(self):
        return LassoOptimizer if self.growth is None else GroupNormOptimizer

    def penalised(self, channel_state):
        if self.growth is not None:
            place = _numbers(channel_state)
            return [(v, axis, place[ids]) for v, axis, ids in members(channel_state)]
        return [(variable, axis) for variable, axis, _ in makers(channel_state)]

    def make_optimizer(self, inner, penalised, channel_state):
        if self.growth is None:
            return super().make_optimizer(inner, penalised, channel_state)
        sizes = [group.size for group in channel_state.groups]
        return GroupNormOptimizer(inner, self.strength, penalised, self.growth, sizes)

    def scores(self, channel_state, optimizer=None):
        """Norms of a channel's weights, in relation to its layer."""
        if self.growth is None:
            return score_weights(channel_state.graph, lambda kernel: kernel_norm(kernel, 2))
        number, parts = channel_state.graph.num_channels, []
        for variable, axis, ids in members(channel_state):
            weights = np.moveaxis(ops.convert_to_numpy(variable).astype("float64"), axis, 0)
            squares, known = np.square(weights.reshape(len(ids), -1)).sum(axis=1), ids >= 0
            own = np.unique(ids[known])
            sums = np.bincount(ids[known], squares[known], number)
            parts.append((own, sums[own]))
        return by_layer_mean(np.sqrt(mean_over(parts, number)), channel_state.groups)


def makers(channel_state):
    """Triples `(variable, axis, channel ids)` of the weights that make channels."""
    operations = {call.name: call.operation for call in channel_state.graph.calls}
    found = []
    for group in channel_state.groups:
        for producer in group.producers:
            layer = operations[producer.layer]
            pair = rule_of(producing_variable, layer)(layer, producer.inside)
            if pair is not None and not producer.follows:
                found.append((*pair, producer.channels))
    return found


def members(channel_state):
    """Triples `(variable, axis, channel ids)` of all weights that would go with a channel.

    An id is -1 where an entry belongs to no channel that may go.
    """
    graph = channel_state.graph
    free = np.zeros(graph.num_channels + 1, bool)  # the last entry stands for id -1
    for group in channel_state.groups:
        free[group.channels] = ~group.pinned
    found = [*makers(channel_state)]
    found += [(gamma, 0, ids) for gamma, ids in scales_of(channel_state)]
    known = set()
    for call in graph.calls:
        pair = rule_of(reading_variable, call.operation)(call.operation)
        if pair is not None and 0 in call.consumed and id(pair[0]) not in known:
            known.add(id(pair[0]))  # a layer that is called twice reads the same channels
            ids = graph.channel_of[call.input.labels_along(call.consumed[0])]
            found.append((*pair, ids))
    found = [(variable, axis, np.where(free[ids], ids, -1)) for variable, axis, ids in found]
    return [member for member in found if (member[2] >= 0).any()]


def _numbers(channel_state):
    """Places of channel ids when they are counted on from group to group; -1 for others."""
    numbers = np.full(channel_state.graph.num_channels + 1, -1)
    ids = np.concatenate([group.channels for group in channel_state.groups])
    numbers[ids] = np.arange(len(ids))
    return numbers
