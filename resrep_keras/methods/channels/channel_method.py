"""What the methods that remove channels share: which channels may go, and how far to prune."""

import dataclasses
import functools
import itertools
import math
import typing
from fractions import Fraction

import numpy as np

from resrep_keras.costs.budget import Limit, UnreachableTarget, choose_keep
from resrep_keras.costs.macs import MacCost, warn_of_unknown
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.graph.blocks import inside_blocks
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.recording import resized
from resrep_keras.graph.sizes import sized
from resrep_keras.graph.trace import trace, trace_recording
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.methods.baseline import Baseline
from resrep_keras.methods.channels.callback import PruningCallback
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.finalize import remove_dead
from resrep_keras.methods.channels.settings import ChannelSettings, minimum_of, multiples
from resrep_keras.methods.method import Method
from resrep_keras.methods.patterns import ask_exclude, check_patterns, for_layer, is_named
from resrep_keras.surgery.insert import insert_compactors
from resrep_keras.surgery.remove import check_rules


@dataclasses.dataclass(eq=False, repr=False)
class ChannelMethod(ChannelSettings, Method):  # type: ignore[misc]  # a field for a constant
    """Base of the methods that remove channels.

    A subclass is a dataclass that adds its settings as fields and checks them in `__post_init__`.

    Args:
        **settings: Those of `ChannelSettings`, and `total_steps`.
    """

    needs_target: typing.ClassVar[bool] = True  # whether something must say how far to prune
    threshold = 1e-5  # below which the norm of a masked column counts as zero

    def __post_init__(self):
        ChannelSettings.__post_init__(self)
        Method.__post_init__(self)
        if self.needs_target and self.target_reduction is None and not self.at_most:
            raise ValueError(
                "Expected target_reduction or at_most to say how far to prune; got neither. Give "
                "target_reduction=0.5, say."
            )

    # The questions ----------------------------------------------------------------------------

    def insert(self, model):
        own = trace(model, None, self.exact, spare_frozen=True)
        graph = _at_sizes(own, self.input_shape, self.exact)
        if any(isinstance(call.operation, (Compactor, Gated)) for call in graph.calls):
            raise ValueError(
                f"Model '{model.name}' is wrapped already: it has compactors. Train it, or "
                "finalize it before wrapping it again."
            )
        sites, diagonal = self.prepare(graph)
        check_rules(graph, self.groups(graph))
        numbers = itertools.count()
        copy = insert_compactors(
            own, sites, diagonal, lambda **given: self.make_compactor(next(numbers), **given)
        )
        given = self.input_shape, self.exact, self.noted(graph), graph.known
        channel_state = ChannelState(copy, *given)
        channel_state.baseline = self.baseline(model, channel_state)
        self.check_target(channel_state)
        return copy, channel_state.baseline

    def callback(self):
        return PruningCallback()

    def make_compactor(self, number, **settings):
        """The `Compactor` that is put behind a layer, the `number`-th of the model."""
        del number
        return Compactor(**settings)

    def prepare(self, graph):
        """Where compactors go: ``(sites, names of diagonal ones)``.

        Raises:
            ValueError: Nothing can be pruned, or a name is unknown.
        """
        groups = self.groups(graph)
        sites = {site.name: site for group in groups for site in group.sites}
        cost = MacCost(graph)
        warn_of_unknown(cost, stacklevel=5)
        return list(sites.values()), self.diagonal(graph, sites, cost.by_layer())

    def diagonal(self, graph, sites, layer_macs):
        """Names of the sites where a full matrix would be wrong or too dear."""
        del graph, layer_macs
        return set(sites)

    def plan(self, first, last, steps_per_epoch):
        """The `Plan` of selections for the steps from `first` to `last`."""
        raise NotImplementedError

    def prepare_run(self, model, channel_state):
        """Called with the `ChannelState` of the model before the first step; does nothing."""
        del model, channel_state

    def check(self, channel_state, plan, last, optimizer):
        """Raise a `ValueError` where `plan` cannot meet the target by step `last`."""

    def update(self, channel_state, optimizer, plan, step):
        """Select channels after `step` steps: read norms, write keep masks."""
        raise NotImplementedError

    def finalize(self, model, data=None, keep_batch_norm=False):
        """The slim model, without its dead channels: zero, or masked and below `threshold`."""
        return remove_dead(model, self, data, keep_batch_norm)

    # What methods share -----------------------------------------------------------------------

    def noted(self, graph):
        """What a wrapped model cannot tell any more: a `Baseline` without numbers."""
        return Baseline(
            exclude=tuple(self.excluded(graph)), frozen=tuple(graph.frozen), paths=graph.paths
        )

    def baseline(self, dense, channel_state):
        """What has to be known of the dense model while a wrapped one trains.

        Args:
            dense: The model that was wrapped.
            channel_state: The `ChannelState` of the wrapped model.

        Returns:
            A `Baseline`: what `noted` says, and for each quantity of the target its dense value and
            what predicts it for fewer channels.
        """
        names = {"macs", *self.reductions(), *self.at_most}
        if self.times_widths():
            names.add("latency")
        measured = {
            name: QUANTITIES[name].measure(dense, channel_state.folded, self.threads)
            for name in sorted(names - {"macs"})
        }
        return dataclasses.replace(
            channel_state.baseline or self.noted(channel_state.graph),
            dense={"macs": channel_state.cost()(), **{n: m[0] for n, m in measured.items()}},
            facts={name: facts for name, (_, facts) in measured.items()},
        )

    def excluded(self, graph):
        """Names of the producers that keep all channels."""
        producers = [producer for group in graph.groups for producer in group.producers]
        if callable(self.exclude):
            layers = {call.name: call.operation for call in graph.calls}
            return [p.name for p in producers if ask_exclude(self.exclude, layers[p.layer])]
        around = Baseline(paths=graph.paths).around
        known = {producer.name: around(producer) for producer in producers}
        check_patterns("exclude", self.exclude, known)
        return [name for name, outer in known.items() if is_named(name, self.exclude, outer)]

    def groups(self, graph):
        """The groups that may lose channels."""
        excluded = set(self.excluded(graph))
        inside = inside_blocks(graph) if self.scope == "blocks" else None
        inside = graph.groups if inside is None else inside  # nor has each model blocks
        groups = [
            group
            for group in inside
            if group.prunable
            and (self.coupled or not group.coupled)
            and not any(producer.name in excluded for producer in group.producers)
        ]
        if not groups:
            kinds = (PinKind.NO_RULE, PinKind.LORA, PinKind.QUANTISED)
            unknown = [
                str(pin) if pin.kind is PinKind.NO_RULE else f"{pin}; {pin.remedy.rstrip('.')}"
                for pin in graph.pins
                if pin.kind in kinds
            ]
            found = [f"{g.name}: {self._why_kept(g, excluded, inside)}" for g in graph.groups]
            reasons = "; ".join([*unknown[:3], *found[:5]])
            raise ValueError(
                "The model has no channels that can be pruned. Expected at least one convolution "
                f"or dense layer that is not an output. Found: {reasons or 'no such layer'}."
            )
        return groups

    def _why_kept(self, group, excluded, inside):
        """Why the method takes no channel of a group, in words."""
        if not group.prunable:
            return group.pinned_by
        names = [producer.name for producer in group.producers if not producer.follows]
        if any(producer.name in excluded for producer in group.producers):
            return "excluded by the setting exclude"
        if all(group is not other for other in inside):
            return "outside of residual blocks, which scope='blocks' leaves as it is"
        return f"its channels go with those of {', '.join(names[1:4])} only; set coupled=True"

    def limits(self, channel_state):
        """The `Limit`s of the slim model, for the keep arrays of a channel_state."""
        dense, found = channel_state.baseline.dense, []
        for name, share in self.reductions().items():
            at_most = dense[name] * (1 - Fraction(repr(share)))
            # Counts are exact; a latency in seconds is not.
            at_most = math.floor(at_most) if isinstance(dense[name], int) else float(at_most)
            found.append(Limit(name, channel_state.predicted(name), at_most, dense[name]))
        for name, at_most in self.at_most.items():
            cost = channel_state.predicted(name)
            found.append(Limit(name, cost, at_most, dense[name], relative=False))
        return found

    def selectable(self, channel_state):
        """The groups whose channels the method has scores for."""
        return channel_state.groups

    def choose(self, channel_state, scores, allowance=None):
        """The keep array that meets all limits, or takes the `allowance` towards it."""
        groups = self.selectable(channel_state)
        producers = [producer for group in groups for producer in group.producers]
        minimum = {p.name: self.minimum(channel_state, p) for p in producers}
        widths = self.widths(channel_state, producers)
        choose = functools.partial(
            choose_keep,
            channel_state.graph,
            scores,
            self.limits(channel_state),
            groups,
            minimum,
        )
        if self.times_widths() and widths and not self._gains(channel_state, choose, widths):
            widths = {}
        try:
            return choose(widths, allowance)
        except UnreachableTarget as error:
            if self.coupled or not any(
                g.coupled and g.prunable for g in channel_state.graph.groups
            ):
                raise
            raise error.adding(
                " With coupled=True, channels of residual streams may go, too."
            ) from error

    def minimum(self, channel_state, producer):
        """How many channels a layer keeps at least."""
        return minimum_of(
            channel_state.dense_width(producer),
            for_layer(self.min_channels, producer.name, 1, channel_state.around(producer)),
            for_layer(self.min_share, producer.name, 0.0, channel_state.around(producer)),
        )

    def _gains(self, channel_state, choose, widths):
        """Whether rounding to `widths` meets the target, with a model that is not slower."""
        latency, unrounded = channel_state.predicted("latency"), choose({})
        try:
            return latency(choose(widths)) <= latency(unrounded)
        except UnreachableTarget:
            return False

    def widths(self, channel_state, producers):
        """``{producer name: widths that channel_multiple allows}``, where not all are."""
        tables = channel_state.predicted("latency").cost.tables if self.times_widths() else {}
        found = {}
        for producer in producers:
            around = channel_state.around(producer)
            number = for_layer(self.channel_multiple, producer.name, 1, around)
            if number == "auto":
                table = tables.get(producer.layer)
                if table is not None and table.outputs[-1] == len(producer.channels):
                    found[producer.name] = table.efficient()
            elif number > 1:
                found[producer.name] = multiples(number, len(producer.channels))
        return found

    def check_target(self, channel_state):
        """Raise where the target is out of reach, met already, or a pattern fits no layer.

        Raises:
            UnreachableTarget: The target is out of reach; says which is not.
            ValueError: It is met already, or a pattern fits no layer.
        """
        producers = [p for group in channel_state.graph.groups for p in group.producers]
        self.check_layers({p.name: channel_state.around(p) for p in producers})
        kept = self.choose(channel_state, np.zeros(channel_state.graph.num_channels))
        if kept.all() and self.limits(channel_state):
            values = ", ".join(
                f"{limit.name} {limit.dense:,} with at most {limit.at_most:,} allowed"
                for limit in self.limits(channel_state)
            )
            raise ValueError(
                f"The dense model meets its target already: {values}. There is nothing to prune; "
                "ask for less, or leave the model as it is."
            )


def _at_sizes(graph, input_shape, exact):
    """The `ChannelGraph` of the same calls at the sizes of an `input_shape`."""
    if input_shape is None:
        return graph
    recording = resized(graph.recording, sized(graph.recording.inputs, input_shape))
    return trace_recording(recording, exact, frozen=graph.frozen)
