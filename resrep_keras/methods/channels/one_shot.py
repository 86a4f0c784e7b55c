"""OneShot: what the methods share that choose all channels at one moment of a run."""

import dataclasses
import typing

import numpy as np

from resrep_keras.common.checks import check_bool, check_number, setting
from resrep_keras.costs.macs import MacCost, warn_of_unknown
from resrep_keras.graph.trace import trace
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.certificate import Finalized, differing, handed_over, tolerance_of
from resrep_keras.methods.channels.channel_method import ChannelMethod
from resrep_keras.methods.channels.channel_state import PrunableChannels
from resrep_keras.methods.channels.finalize import certify_removal, repaired
from resrep_keras.methods.channels.schedules import Plan
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer
from resrep_keras.surgery.examples import Examples
from resrep_keras.surgery.masked import Masked
from resrep_keras.surgery.remove import remove


@dataclasses.dataclass(eq=False, repr=False)
class OneShot(ChannelMethod):
    """Base of the methods that score channels once, switch the lowest off, and fine-tune.

    A subclass answers `scores`. One that learns its scores in training brings an optimizer of its
    own, and starts with `at` above 0.

    Args:
        at: Share of the run before the selection, in [0, 1). At 0 it comes before the first step.
        **settings: Those of `ChannelSettings`, and `total_steps`.
    """

    at: float = setting(0.0, check_number, at_least=0, below=1)

    # Compactors stay as they are: no gradient, decay or momentum can bring a channel back.
    trained_by: typing.ClassVar[type] = FrozenCompactorsOptimizer

    def scores(self, channel_state, optimizer=None):
        """Importance of each channel, 0 or larger, float `(num_channels,)`.

        Args:
            channel_state: The `ChannelState` of the wrapped model, or the `PrunableChannels` of a
                dense one.
            optimizer: The optimizer that has trained it, for methods that measure in training.
        """
        raise NotImplementedError

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
        scores = np.where(kept, self.scores(channel_state, optimizer), -1.0)
        channel_state.switch_off(self.choose(channel_state, scores))

    def scores_on(self, channels, model, examples):
        """Importance of each channel where there are examples: that of `scores`.

        A method that learns its scores from data looks at the examples.

        Args:
            channels: The `PrunableChannels` of the model.
            model: The dense model.
            examples: The `Examples`.
        """
        del model, examples
        return self.scores(channels)

    def check_examples(self, model, examples):
        """Raise where `scores_on` cannot do with the examples; does nothing."""

    def prune(self, model, strict=False, data=None, repair=True):
        """Return the slim model at once, without training.

        With `data` its layers are fitted to what they made before, one after the other, and its
        batch normalisations take their statistics again: what a pruned model that nobody trains is
        worth depends on it. A thousand examples do.

        Args:
            model: A built Keras model; it is left as it is.
            strict: Whether to raise where this function warns. Defaults to `False`.
            data: Inputs, or a pair `(inputs, labels)`: arrays, the examples first; of a model of
                several inputs, `((a, b), labels)` is a pair. Or a data set of batches. Both
                models are compared on the inputs, beside random ones, before the repair; they
                decide. `TaylorPruning` scores channels on them. Defaults to none.
            repair: Whether to repair the slim model on `data`; `False` compares on them, and no
                more. Defaults to `True`.

        Returns:
            A Functional model. Its attribute `certificate` is a `Certificate`: how far its outputs,
            before any repair, are from those of `model` with the channels that go at zero.

        Raises:
            UnreachableTarget: The target is out of reach.
            TypeError: `data` that are neither arrays nor batches of them.
            ValueError: Nothing can be pruned, or the scores are measured in training; `data` that
                do not fit the model, are too few or not finite; with `strict`, outputs that differ.
        """
        strict, repair = check_bool("strict", strict), check_bool("repair", repair)
        check_model(model)
        examples = None if data is None else Examples(model, data)
        if examples is not None:
            self.check_examples(model, examples)
            if repair:
                examples.check()
        graph = trace(model, self.input_shape, self.exact, spare_frozen=True)
        groups, noted = self.groups(graph), self.noted(graph)
        channels = PrunableChannels(model, graph, groups, self.input_shape, self.exact, noted)
        warn_of_unknown(MacCost(graph), stacklevel=3)
        channels.baseline = self.baseline(model, channels)
        self.check_target(channels)
        looked = examples is not None
        scores = self.scores_on(channels, model, examples) if looked else self.scores(channels)
        kept = self.choose(channels, scores)
        own, own_kept = channels.own, channels.own_keep(kept)
        slim = remove(own, own_kept)
        inputs = None if examples is None else examples.x
        certificate = certify_removal(slim, channels, kept, inputs, Masked(own, own_kept))
        told = differing(certificate, tolerance_of(model, certificate), "Slim and masked model")
        if examples is not None and repair:
            certificate = repaired(own, own_kept, slim, examples, certificate)
        return handed_over(Finalized(slim, certificate, tuple(told)), strict)
