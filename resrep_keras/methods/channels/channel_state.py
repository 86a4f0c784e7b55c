"""The channels of a model that may go, and the compactors of a wrapped one as one array."""

import functools

import numpy as np
from keras import ops

from resrep_keras.costs.folded import Folded, SlimCost
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.graph.trace import recording_of, trace_recording
from resrep_keras.keras_adapter import is_frozen
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.methods.baseline import Removal
from resrep_keras.methods.channels.scores import joint_norm
from resrep_keras.methods.wrapped import baseline_of


class PrunableChannels:
    """The channels of a model that may go, and what the model costs without them.

    Args:
        model: A built Keras model.
        graph: Its `ChannelGraph`.
        groups: The `ChannelGroup`s that may lose channels.
        input_shape, exact: With which it was traced, see `resrep_keras.trace`.

    Attributes:
        memo: What a method has found out about these channels.
        baseline: The `Baseline`, what is known of the dense model.
    """

    def __init__(self, model, graph, groups, input_shape=None, exact=True, baseline=None):
        self.graph, self.groups = graph, groups
        self.input_shape, self.exact = input_shape, exact
        self.baseline, self.memo = baseline, {}
        self._model, self._costs = model, {}

    @property
    def removal(self):
        """The `Removal` of channels by `slim_every` so far."""
        return Removal() if self.baseline is None else self.baseline.removal

    @property
    def removed(self):
        """Number of the channels that `slim_every` has removed so far."""
        return self.removal.channels

    def dense_width(self, producer):
        """Number of channels of a producer in the dense model."""
        return self.removal.widths.get(producer.name, len(producer.channels))

    def around(self, producer):
        """Names of the models and composite layers that a producer stood in."""
        return () if self.baseline is None else self.baseline.around(producer)

    @functools.cached_property
    def own(self):
        """The graph of the sizes that the model has by itself, which surgery goes by."""
        if self.input_shape is None:
            return self.graph
        return trace_recording(recording_of(self._model), self.exact, frozen=self.graph.frozen)

    def own_keep(self, kept):
        """The keep array of `own` that means what `kept` does in `graph`."""
        if self.own is self.graph:
            return kept
        return self.own.keep_array(self.graph.keep_by_producer(kept))

    def cost(self):
        """`MacCost` of the slim model, in which compactors are folded away."""
        return MacCost(self.graph, compactors=False)

    @functools.cached_property
    def folded(self):
        """What `finalize` would return if no channel were dead: a `Folded`."""
        return Folded(self.graph, self.own, self.input_shape, self.exact)

    def predicted(self, name):
        """A quantity of the slim model as a cost, see `resrep_keras.costs.quantities`."""
        if name not in self._costs:
            if name == "macs":  # the same number, without a folded model
                self._costs[name] = self.cost()
            else:
                cost = QUANTITIES[name].predict(self.folded, self.baseline.facts[name])
                self._costs[name] = SlimCost(self.folded, cost)
        return self._costs[name]


class ChannelState(PrunableChannels):
    """What a method reads and writes while a wrapped model trains.

    Args:
        model: A Functional model with compactors.
        input_shape, exact: See `resrep_keras.trace`.
        baseline: Its `Baseline`. Defaults to what the model carries.
        known: What was found out of calls that are alike, as of the dense model.

    Attributes:
        compactors: Pairs `(Compactor, channel ids)`; id -1 marks a column that is never removed.
            There are none after the last removal of `slim_every`.
        behind_producers: Those of them that stand behind the layers that make their channels. The
            others are further on, where constants are made of zeros.
        groups: The groups that have a compactor wherever zeros are needed.

    Raises:
        ValueError: The model has no compactors.
    """

    def __init__(self, model, input_shape=None, exact=True, baseline=None, known=None):
        baseline = baseline_of(model) if baseline is None else baseline
        # A model that is frozen by now goes by what was frozen when compactors were put in.
        frozen = () if baseline is None else baseline.frozen
        recording = recording_of(model, input_shape)
        graph = trace_recording(recording, exact, frozen=frozen, known=known)
        super().__init__(model, graph, [], input_shape, exact, baseline)
        self.compactors, behind = [], {}
        followed, known = set(), set()
        for call in self.graph.calls:
            for layer, labels, inside in _compactors_of(call):
                before = call if inside is not None else self.graph.makers[call.input_ids[0]]
                site = before.name if inside is None else f"{call.name}.{inside}"
                followed.add(site)
                if id(layer) not in known:
                    known.add(id(layer))
                    self.compactors.append((layer, self.graph.channel_of[labels]))
                    producer = self.graph.producer_before(before) if inside is None else site
                    behind.setdefault(producer, self.compactors[-1])
        behind.pop(None, None)
        self.behind_producers = list(behind.values())
        if not self.compactors and not self.removal:
            raise ValueError(
                f"Model '{model.name}' has no compactors. Expected a model made by "
                "resrep_keras.wrap(model)."
            )
        self.groups = [
            group
            for group in self.graph.groups
            if group.prunable and followed.issuperset(s.name for s in group.sites)
        ]

    def check_trained(self):
        """Raise where compactors are frozen, though the method trains them.

        Raises:
            ValueError: Names them.
        """
        frozen = [layer.name for layer, _ in self.compactors if is_frozen(layer)]
        if frozen:
            raise ValueError(
                f"The compactors {', '.join(frozen[:5])} are frozen (trainable=False), so that no "
                "channel can be forgotten. Set trainable=True for them, or freeze layers of the "
                "dense model before wrap(), and compile the model again."
            )

    def norms(self):
        """Joint column norm of each channel, float64 `(num_channels,)`."""
        columns = [(ids, layer.column_norms()) for layer, ids in self.compactors]
        return joint_norm(columns, self.graph.num_channels)

    def kept(self):
        """The keep masks as one keep array."""
        kept = np.ones(self.graph.num_channels, bool)
        for layer, ids in self.compactors:
            kept[ids[~_mask(layer) & (ids >= 0)]] = False
        return kept

    def set_masks(self, kept):
        """Write a keep array into the keep masks of all compactors."""
        for layer, ids in self.compactors:
            layer.keep_mask.assign(_lookup(ids, kept))

    def switch_off(self, kept):
        """Write a keep array into the keep masks, and set the columns that it removes to zero."""
        self.set_masks(kept)
        for layer, _ in self.compactors:
            layer.kernel.assign(layer.kernel * ops.cast(layer.keep_mask, layer.kernel.dtype))

    def dead(self, threshold):
        """Bool, one for each channel: all its columns are zero, or below `threshold` and masked."""
        dead = np.zeros(self.graph.num_channels, bool)
        alive = np.zeros(self.graph.num_channels, bool)
        for layer, ids in self.compactors:
            norms = layer.column_norms()
            gone = (norms == 0) | (~_mask(layer) & (norms < threshold))
            dead[ids[gone & (ids >= 0)]] = True
            alive[ids[~gone & (ids >= 0)]] = True
        dead &= ~alive
        covered = np.zeros(self.graph.num_channels, bool)
        for group in self.groups:
            covered[group.channels[~group.pinned]] = True
        # A layer keeps one channel, and reads one, be it zero.
        return ~self.graph.with_one_each(~(dead & covered))


def _compactors_of(call):
    """Triples `(compactor, labels, name inside the layer or None)`."""
    layer = call.operation
    if isinstance(layer, Compactor):
        axis = layer.axis % len(call.input.shape)
        return [(layer, call.input.labels_along(axis), None)]
    gates = layer.gates if isinstance(layer, Gated) else {}
    return [(gate, call.inside[name], name) for name, gate in gates.items()]


def _mask(layer):
    return ops.convert_to_numpy(layer.keep_mask).astype(bool)


def _lookup(ids, kept):
    return np.where(ids < 0, True, kept[np.maximum(ids, 0)])
