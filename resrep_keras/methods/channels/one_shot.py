"""OneShot: what the methods share that choose all channels at one moment of a run."""

import dataclasses

import numpy as np

from resrep_keras.common.checks import check_number, setting
from resrep_keras.costs.macs import MacCost, warn_of_unknown
from resrep_keras.graph.trace import trace
from resrep_keras.methods.certificate import Finalized, differing, handed_over, tolerance_of
from resrep_keras.methods.channels.channel_method import ChannelMethod
from resrep_keras.methods.channels.channel_state import PrunableChannels
from resrep_keras.methods.channels.finalize import certify_removal
from resrep_keras.methods.channels.schedules import Plan
from resrep_keras.methods.channels.scores import guarded
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer
from resrep_keras.surgery.masked import Masked
from resrep_keras.surgery.remove import remove


@dataclasses.dataclass(eq=False, repr=False)
class OneShot(ChannelMethod):
    """Base of the methods that score channels once, switch the lowest off, and fine-tune.

    A subclass answers `scores`. One that learns its scores in training brings an optimizer of its
    own, and starts with `at` above 0.

    Args:
        at: Share of the run before the selection, in [0, 1). At 0 it comes before the first step.
        guard: How much a score rises as its layer empties, 0 or larger, see `worth`.
        **settings: Those of `ChannelSettings`, and `total_steps`.
    """

    at: float = setting(0.0, check_number, at_least=0, below=1)
    guard: float = setting(0.0, check_number, at_least=0)

    # Compactors stay as they are: no gradient, decay or momentum can bring a channel back.
    trained_by = FrozenCompactorsOptimizer

    def scores(self, channel_state, optimizer=None):
        """Importance of each channel, 0 or larger, float `(num_channels,)`.

        Args:
            channel_state: The `ChannelState` of the wrapped model, or the `PrunableChannels` of a
                dense one.
            optimizer: The optimizer that has trained it, for methods that measure in training.
        """
        raise NotImplementedError

    def worth(self, channel_state, optimizer=None):
        """The scores by which channels go: raised where their layer has lost those below them.

        See `guarded`, whose strength is `guard`.
        """
        scores = self.scores(channel_state, optimizer)
        return guarded(scores, self.selectable(channel_state), self.guard)

    def optimizer(self, inner, model=None):
        del model
        return self.trained_by(inner)

    def plan(self, first, last, steps_per_epoch):
        del steps_per_epoch
        length = last - first
        wait = min(max(1, round(self.at * length)), length - 1) if self.at else 0
        return Plan((first + max(0, wait),), 0)

    def check(self, channel_state, plan, last, optimizer):
        if self.at and not isinstance(optimizer, self.trained_by):
            raise ValueError(
                f"{type(self).__name__}(at={self.at}) works in training, and expects its own "
                f"{self.trained_by.__name__}; got {type(optimizer).__name__}. Compile a model made "
                "by resrep_keras.wrap, or set model.optimizer = method.optimizer(inner, model)."
            )

    def update(self, channel_state, optimizer, plan, step):
        """Mask the channels of the lowest scores, and set their columns to zero."""
        del plan, step
        kept = channel_state.kept()
        if all(limit.met(kept) for limit in self.limits(channel_state)):
            return  # a run that goes on: another choice could only release channels
        scores = np.where(kept, self.worth(channel_state, optimizer), -1.0)
        channel_state.switch_off(self.choose(channel_state, scores))

    def prune(self, model, strict=False, data=None):
        """Return the slim model at once, without training.

        Args:
            model: A built Keras model; it is left as it is.
            strict: Whether to raise where this function warns. Defaults to `False`.
            data: Inputs to compare both models on beside random ones; they decide. Defaults to
                none.

        Returns:
            A Functional model. Its attribute `certificate` is a `Certificate`: how far its outputs
            are from those of `model` with the channels that go at zero.

        Raises:
            UnreachableTarget: The target is out of reach.
            ValueError: Nothing can be pruned, or the scores are measured in training; with
                `strict`, outputs that differ.
        """
        graph = trace(model, self.input_shape, self.exact, spare_frozen=True)
        groups, noted = self.groups(graph), self.noted(graph)
        channels = PrunableChannels(model, graph, groups, self.input_shape, self.exact, noted)
        warn_of_unknown(MacCost(graph), stacklevel=3)
        channels.baseline = self.baseline(model, channels)
        self.check_target(channels)
        kept = self.choose(channels, self.worth(channels))
        own, own_kept = channels.own, channels.own_keep(kept)
        slim = remove(own, own_kept)
        certificate = certify_removal(slim, channels, kept, data, Masked(own, own_kept))
        told = differing(certificate, tolerance_of(model, certificate), "Slim and masked model")
        return handed_over(Finalized(slim, certificate, tuple(told)), strict)
