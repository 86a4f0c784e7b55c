"""MagnitudePruning: one-shot removal of the channels with the smallest weights."""

import keras
import numpy as np

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.trace import trace
from resrep_keras.methods.channel_method import ChannelMethod
from resrep_keras.methods.compaction import Compaction
from resrep_keras.schedules import Plan
from resrep_keras.scores import kernel_norm, producing_weights
from resrep_keras.surgery.fold import insert_compactors
from resrep_keras.surgery.remove import remove_channels


@keras.saving.register_keras_serializable("resrep_keras")
class MagnitudePruning(ChannelMethod):
    """Removes, in one go, the channels whose kernels have the smallest norm.

    The baseline of the field: no training is needed to prune, and fine-tuning is left to you.

    Args:
        target_reduction, at_most, min_channels, min_share, channel_multiple, exclude, coupled,
            threads: As in `ResRep`.
        order: 1 or 2, the norm. Defaults to `1`.
        input_shape: Shape of one input, for a model with unknown sizes. Defaults to `None`.
        exact: Whether channels stay whose removal changes outputs, because something is computed
            over all channels together (layer normalisation). Defaults to `True`.

    Example:

    >>> slim = resrep_keras.MagnitudePruning(target_reduction=0.5).prune(dense)

    Reference:
        Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.

    Note:
        The paper prunes each layer by a share of its own. Here norms are divided by their layer's
        mean and sorted globally, so that the target is a share of the whole model's cost.
    """

    def __init__(
        self,
        target_reduction=0.5,
        at_most=None,
        min_channels=1,
        min_share=0.0,
        channel_multiple=1,
        exclude=(),
        coupled=False,
        threads=1,
        order=1,
        input_shape=None,
        exact=True,
    ):
        super().__init__(
            target_reduction,
            at_most,
            min_channels,
            min_share,
            channel_multiple,
            exclude,
            coupled,
            threads,
            input_shape,
            exact,
        )
        if order not in (1, 2):
            raise ValueError(f"Expected order 1 (L1 norm) or 2 (L2 norm); got {order!r}.")
        self.order = order

    def prune(self, model):
        """Return the slim model; `model` is left as it is.

        Raises:
            ValueError: Nothing can be pruned, or the target is out of reach.
        """
        graph = trace(model, self.input_shape, self.exact)
        sites, diagonal = self.prepare(graph)
        compaction = Compaction(
            insert_compactors(model, sites, diagonal), self.input_shape, self.exact
        )
        compaction.baseline = self.baseline(model, compaction)
        self.check_target(compaction)
        kept = self.choose(compaction, self.scores(compaction.graph))
        return remove_channels(model, compaction.graph.keep_by_producer(kept), self.exact)

    def scores(self, graph):
        """Mean over a channel's producers of their normalised kernel norms.

        Channels of a layer without `kernel`, and without a rule in `scores.producing_weights`, are
        kept to the last.
        """
        layers = {call.name: call.operation for call in graph.calls}
        total = np.zeros(graph.num_channels)
        number = np.zeros(graph.num_channels)
        for group in graph.groups:
            for producer in group.producers:
                if not producer.follows:
                    layer = layers[producer.layer]
                    weights = rule_of(producing_weights, layer)(layer, producer.inside)
                    if weights is not None:
                        norms = kernel_norm(weights, self.order)
                        np.add.at(total, producer.channels, norms)
                        np.add.at(number, producer.channels, 1)
        return np.where(number > 0, total / np.maximum(number, 1), np.inf)

    def plan(self, first, last, steps_per_epoch):
        del last, steps_per_epoch
        return Plan((first,), 0)

    def update(self, compaction, optimizer, plan, step):
        """Mask the channels and set their columns to zero, before the first step."""
        del optimizer, plan, step
        scores = np.where(compaction.kept(), self.scores(compaction.graph), 0.0)
        compaction.switch_off(self.choose(compaction, scores))
