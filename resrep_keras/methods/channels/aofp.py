"""AOFP: a binary search for the least important channels of all layers, while the model trains."""

import bisect
import dataclasses
import math
import typing
import warnings
import zlib

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import check_number, setting
from resrep_keras.common.eager import eagerly
from resrep_keras.costs.budget import UnreachableTarget
from resrep_keras.layers.scored import DONE, WAITING, ScoredCompactor
from resrep_keras.methods.channels.ablation import Ablation, searches_of, unmeasured
from resrep_keras.methods.channels.channel_method import ChannelMethod
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.damages import next_step, own_damages, without_chance
from resrep_keras.methods.channels.schedules import Plan
from resrep_keras.methods.channels.scores import guarded
from resrep_keras.methods.wrapped import notes_of
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer

# A half-round lasts this share of the search where nobody says how long, with at least so many
# steps; in a search too short for two of these half of it, with fewer.
PLANNED_HALVES, USUAL_STEPS, FEWEST_STEPS = 40, 10, 6
# Half-rounds begin at this many different steps, so that layers do not all decide at once.
PHASES = 5


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class AOFP(ChannelMethod):
    """Approximated oracle filter pruning: finds by trial what each layer can do without.

    In every training step, half of the channels of each layer's search set are ablated at random,
    and the damage is measured at the next layer alone, so that all layers are tried at once:

    ```
    t = sum (F(x) - F(x'))**2 / sum F(x)**2
    ```

    After exactly `interval` steps each channel has a mean damage `T`. Of `n` candidates the
    `n // 2` of the smallest `T` are chosen; if the worst of them is below `max_damage` they are
    switched off, and a new round begins with all channels that are left. Otherwise they become the
    search set of the next half-round, until one channel alone is too many. So `max_damage` decides
    how wide each layer ends. Training goes on all the while; ablations touch neither the loss nor
    any statistics.

    Args:
        max_damage: Damage that a move may do, a share of the next layer's output energy, 0 or
            larger. Defaults to `0.05`.
        interval: Steps of a half-round; a search has to have twice as many. Defaults to a fortieth
            of the search, at least 10; at most half of it, at least 6.
        warmup: Share of the run before the search. Defaults to `0.05`.
        search_end: Share of the run at which the search ends; the rest is fine-tuning. A target
            that is not met by then is met by the channels that do the least by themselves, and a
            warning says so. Defaults to `0.3`.
        seed: Seed of the ablations. Defaults to `0`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`. The search stops where the target is met; with `target_reduction=None`
            and no other limit it goes on to its end, and leaves the widths to `max_damage`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.AOFP(target_reduction=0.5))

    Reference:
        Ding et al., "Approximated Oracle Filter Pruning for Destructive CNN Width Optimization",
        ICML 2019. `AOFP.paper()` has its settings.

    Note:
        What a channel does by itself is found from the means over halves as if damages added up,
        and counts for more as its layer empties (see `scores.guarded`); the authors' code searches
        on until the target is met. Batch normalisation on the ablated path uses the statistics of
        its own batch, as in that code, but does not touch the moving averages, as it does there.
        Layers with several readers add up the damages at each, which the paper does not treat. What
        a mean over random halves estimates is a channel's average marginal damage (a Banzhaf
        value), not that of leaving it out alone.
    """

    max_damage: float = setting(0.05, check_number, at_least=0)
    interval: int | None = setting(None, check_number, at_least=1, whole=True)
    warmup: float = setting(0.05, check_number, at_least=0, below=1)
    search_end: float = setting(0.3, check_number, above=0, below=1)
    seed: int = setting(0, check_number, at_least=0, whole=True)

    needs_target: typing.ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        if self.warmup >= self.search_end:
            raise ValueError(
                f"Expected warmup to end before the search does; got warmup={self.warmup}, "
                f"search_end={self.search_end}."
            )

    @classmethod
    def paper(cls, **settings):
        """The settings of the authors' code: a damage of 0.01, 1,000 steps a half-round.

        There the pruning phase has a constant rate of 1e-3, and 600 epochs of fine-tuning follow.
        """
        return cls(**{"max_damage": 0.01, "interval": 1000, **settings})

    # The questions ----------------------------------------------------------------------------

    def make_compactor(self, number, **settings):
        # Each layer draws ablations of its own.
        seed = zlib.crc32(f"{self.seed} {number}".encode())
        return ScoredCompactor(seed=seed, **settings)

    def optimizer(self, inner, model=None):
        del model
        return FrozenCompactorsOptimizer(inner)

    def forward(self, model, inputs, training):
        """In training, the outputs with damages measured on the way."""
        return self._ablation(model)(as_inputs(model, inputs)) if training else None

    def _ablation(self, model):
        notes = notes_of(model)
        if "ablation" not in notes:
            with eagerly():  # in a training loop of one's own this may be a traced step
                self.prepare_run(model, ChannelState(model, self.input_shape, self.exact))
        return notes["ablation"]

    def prepare_run(self, model, channel_state):
        """Make the `Ablation` that the steps of a model run: outside of them, from its graph."""
        notes_of(model)["ablation"] = Ablation(model, channel_state)

    def plan(self, first, last, steps_per_epoch):
        del steps_per_epoch
        length = last - first
        end = first + int(self.search_end * length)
        begin = first + int(self.warmup * length)
        # Until each layer has measured all of its channels once.
        least = 2 * (self.interval or FEWEST_STEPS)
        if end - begin < least:
            raise ValueError(
                f"Expected a run whose search has at least {least} steps, two half-rounds; got "
                f"{max(0, end - begin)} of {length}. Train for more epochs or steps, or set a "
                "smaller interval."
            )
        interval = self._interval(begin, end)
        phases = {phase * interval // PHASES for phase in range(PHASES)}
        steps = (range(begin + phase, end, interval) for phase in phases)
        return Plan((*sorted(set().union(*steps)), end), 0)

    def _interval(self, begin, end):
        if self.interval is not None:
            return self.interval
        usual = max(USUAL_STEPS, (end - begin) // PLANNED_HALVES)
        return min(usual, (end - begin) // 2)

    def update(self, channel_state, optimizer, plan, step):
        """Let each layer whose half-round is over decide."""
        del optimizer
        begin, end = plan.steps[0], plan.steps[-1]
        interval = self._interval(begin, end)
        searches = self.searches(channel_state)
        limits = self.limits(channel_state)
        for rank, search in enumerate(searches):
            layer = search.compactor
            begun = int(ops.convert_to_numpy(layer.begun))
            phase = rank * PHASES // len(searches)
            if begun == WAITING and step >= begin + phase * interval // PHASES:
                layer.begin(self._alive(search, channel_state.kept()), step)
            elif begun >= 0 and step - begun >= interval:
                self._decide(channel_state, search, limits, step)
        met = limits and all(limit.met(channel_state.kept()) for limit in limits)
        if step >= end or met:
            if limits and not met:
                self._complete(channel_state, limits)
            for search in searches:
                search.compactor.begun.assign(DONE)

    def searches(self, channel_state):
        """The `Search`es of a model, found once."""
        if "searches" not in channel_state.memo:
            channel_state.memo["searches"] = searches_of(channel_state)
        return channel_state.memo["searches"]

    def check_target(self, channel_state):
        if not self.searches(channel_state):
            raise ValueError(
                "AOFP finds no layer whose damage it can measure. Expected channels of a "
                "convolution or dense layer that are read by another one; channels inside "
                "recurrent and attention layers are for ResRep."
            )
        left = unmeasured(channel_state)
        why = "; ".join(f"'{name}', since {text}" for name, text in left.items())
        try:
            super().check_target(channel_state)
        except UnreachableTarget as error:
            if not left:
                raise
            raise error.adding(f" AOFP measures no damage of {why}.") from error
        if left:
            warnings.warn(
                f"AOFP keeps all channels whose damage it cannot measure: those of {why}. Other "
                "methods, such as ResRep, prune them.",
                stacklevel=2,
            )

    def selectable(self, channel_state):
        return [search.group for search in self.searches(channel_state)]

    def groups(self, graph):
        """Without the groups whose channels are scaled inside a layer."""
        groups = [g for g in super().groups(graph) if all(s.inside is None for s in g.sites)]
        if not groups:
            raise ValueError(
                "AOFP finds no channels that it could search for. Expected those of a convolution "
                "or dense layer; channels inside recurrent and attention layers are for ResRep."
            )
        return groups

    def logs(self, model):
        """`channels`: how many of the channels that are searched for are left."""
        channel_state = self._ablation(model).channel_state
        kept = channel_state.kept()
        return {"channels": sum(int(kept[g.channels].sum()) for g in channel_state.groups)}

    # The search -------------------------------------------------------------------------------

    def _alive(self, search, kept):
        return np.where(search.ids < 0, False, kept[np.maximum(search.ids, 0)] & self._free(search))

    def _free(self, search):
        pinned = search.group.channels[search.group.pinned]
        # Of entries that are one channel, the last one stands for it where it is read.
        behind = np.unique(search.ids[::-1], return_index=True)[1]
        last = np.isin(np.arange(len(search.ids)), len(search.ids) - 1 - behind)
        return last & ~np.isin(search.ids, pinned)

    def _decide(self, channel_state, search, limits, step):
        layer, kept = search.compactor, channel_state.kept()
        alive = self._alive(search, kept)
        candidates = ops.convert_to_numpy(layer.candidates).astype(bool)
        means = layer.means()
        self._note(layer, alive)
        kind, chosen = next_step(means, candidates, self.max_damage)
        widths = self.widths(channel_state, search.group.producers)
        if kind == "move":
            # In this order, and the last channel of what another layer reads not at all.
            going = channel_state.graph.removable(kept, search.ids[chosen])
            chosen = chosen[np.isin(search.ids[chosen], going)]
            chosen = chosen[: self._spare(channel_state, search, kept)]
            kept = self._without(search, kept, chosen, limits, widths)
            channel_state.switch_off(kept)
        # A search set whose half is no move that `channel_multiple` allows leads to nothing.
        if kind == "halve" and len(chosen) // 2 >= self._smallest_move(search, kept, widths):
            narrowed = np.zeros_like(candidates)
            narrowed[chosen] = True
            layer.begin(narrowed, step)
        else:
            layer.begin(self._alive(search, kept), step)

    def _spare(self, channel_state, search, kept):
        """How many channels the layers of a group can lose."""
        return max(
            0,
            min(
                int(kept[p.channels].sum()) - self.minimum(channel_state, p)
                for p in search.group.producers
            ),
        )

    def _smallest_move(self, search, kept, widths):
        """How many channels a group loses at least, to come to widths that are allowed."""
        gaps = [1]
        for producer in search.group.producers:
            if producer.name in widths:
                width = int(kept[producer.channels].sum())
                narrower = [other for other in widths[producer.name] if other < width]
                gaps.append(width - max(narrower, default=-math.inf))
        return max(gaps)

    def _without(self, search, kept, chosen, limits, widths):
        """A keep array without the chosen channels, or with as few gone as meet the limits.

        So many stay that each layer has a width that is allowed.
        """

        def keep(count):
            fewer = kept.copy()
            fewer[search.ids[chosen[:count]]] = False
            return fewer

        def enough(count):
            return bool(limits) and all(limit.met(keep(count)) for limit in limits)

        def allowed(count):
            left = keep(count)
            return all(
                int(left[p.channels].sum()) in widths[p.name]
                for p in search.group.producers
                if p.name in widths
            )

        counts = [count for count in range(len(chosen) + 1) if allowed(count)]
        first = bisect.bisect_left(counts, True, key=enough)
        return keep(counts[min(first, len(counts) - 1)])

    def _complete(self, channel_state, limits):
        """Meet the target by what channels do by themselves, where moves have not.

        A channel stands for more where its layer has lost those below it, see `guarded`: the last
        of a layer does the damage of all.
        """
        kept, unknown = channel_state.kept(), set()
        scores = np.full(len(kept), np.inf)
        for search in self.searches(channel_state):
            alive = self._alive(search, kept)
            values = self._damages(search.compactor, alive)
            scores[search.ids[alive]] = without_chance(values[alive])
            unknown.update(search.ids[alive & ~np.isfinite(values)].tolist())
        scores = np.where(kept, guarded(scores, self.selectable(channel_state)), -1.0)
        left = {limit.name: round(limit.left(kept), 3) for limit in limits}
        chosen = self.choose(channel_state, scores)
        blind = len(unknown.intersection(np.flatnonzero(~chosen).tolist()))
        warnings.warn(
            f"AOFP's moves of max_damage={self.max_damage} left shares of {left} by the end of its "
            "search, which is not the target. The channels of the smallest damages go beside them"
            + (f", and {blind} that no half has ever left out" if blind else "")
            + ". Search longer (search_end, more epochs) or allow more damage.",
            stacklevel=2,
        )
        channel_state.switch_off(chosen)

    def _damages(self, layer, alive):
        """What the channels that are left do by themselves, by a part of a round if need be."""
        scores = ops.convert_to_numpy(layer.scores)
        if not np.isfinite(scores[alive]).all():
            self._note(layer, alive)
        return np.asarray(ops.convert_to_numpy(layer.scores), np.float64)

    def _note(self, layer, alive):
        """Write down what the channels that are left do: the mean of this round and the last."""
        candidates = ops.convert_to_numpy(layer.candidates).astype(bool)
        if (candidates == alive).all():  # with a smaller set, damages would not compare
            before, found = (
                ops.convert_to_numpy(layer.scores),
                own_damages(layer.means(), alive),
            )
            both = np.where(np.isfinite(before), before, found) / 2 + found / 2
            layer.scores.assign(np.where(np.isfinite(found), both, np.where(alive, before, np.inf)))


def as_inputs(model, inputs):
    """Inputs of a Functional model in the order and rank that its graph has them in."""
    return [
        ops.expand_dims(value, -1) if len(value.shape) == len(like.shape) - 1 else value
        for value, like in zip(keras.tree.flatten(inputs), keras.tree.flatten(model.input))
    ]
