"""trace(model): the one pass that finds channel labels, groups, compactor sites and pins.

The calls of the model are recorded once. The rules of `flow` then run over them, and again
whenever they have shown that a channel needs more than was assumed: a diagonal compactor behind the
layer that turns its zeros into constants, a producer that only follows a product, or a pin.
"""

import bisect

import keras
import numpy as np

from resrep_keras.common.checks import check_bool
from resrep_keras.graph import record as recorder
from resrep_keras.graph.call import calls_of
from resrep_keras.graph.channels import ChannelGraph, ChannelGroup, Producer, Site
from resrep_keras.graph.deferred import deferred
from resrep_keras.graph.flow import calls_as_known, depends_on_channels, flows_behind
from resrep_keras.graph.labels import Flow, Labels, State
from resrep_keras.graph.opened import may_be_opened, num_free, without_unclear
from resrep_keras.graph.other_weights import other_weights
from resrep_keras.graph.pins import Pin, PinKind
from resrep_keras.graph.recording import resized
from resrep_keras.graph.regular import settle_calls
from resrep_keras.graph.sharing import read_alike, sharing
from resrep_keras.graph.sizes import sized
from resrep_keras.graph.unroll import check_model, is_graph
from resrep_keras.keras_adapter import input_name, is_frozen

# Stands for the model's outputs among the names of layers, none of which is like that.
OUTPUT = "(output)"


def recording_of(model, input_shape=None, whole=False):
    """The `Recording` of a model's calls, in which layers that have a rule stay closed.

    What matters in training only is left out, unless the `whole` recording is wanted. With an
    `input_shape` it has the same calls: there is one copy for all sizes.
    """
    if input_shape is None or not is_graph(model):
        return recorder.record(model, input_shape, calls_as_known, whole)
    own = recorder.record(model, None, calls_as_known, whole)
    return resized(own, sized(own.inputs, input_shape))


def trace(model, input_shape=None, exact=True, spare_frozen=False):
    """Find out which channels of a model live and die together.

    Args:
        model: A built `keras.Model`: Functional, Sequential, nested, or a subclass whose `call` can
            be written out as a graph.
        input_shape: Shape without the batch axis, for a model with unknown sizes whose costs are
            wanted. Defaults to the model's own.
        exact: Whether to pin channels whose removal changes outputs, because something is computed
            over all channels together (layer normalisation). Defaults to `True`.
        spare_frozen: Whether layers that are frozen now (`trainable=False`) are left whole, as
            methods do; see `trace_recording`. Defaults to `False`.

    Returns:
        A `ChannelGraph`.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without a graph (never built, or of a subclass that only runs on
            arrays).

    Example:

    >>> graph = resrep_keras.trace(keras.applications.ResNet50(weights=None))
    >>> [group.name for group in graph.groups if group.prunable][:2]
    ['conv1_conv', 'conv2_block1_1_conv']
    """
    check_model(model)
    exact = check_bool("exact", exact)
    recording = recording_of(model, input_shape)
    frozen = frozen_layers(recording) if spare_frozen else ()
    graph = trace_recording(recording, exact, frozen=frozen)
    graphs = [graph]
    opened = without_unclear(graph) if may_be_opened(model, input_shape) else None
    while opened is not None:  # what lies behind may be unclear now
        graphs.append(trace_recording(opened, exact, frozen=frozen, known=graph.known))
        opened = without_unclear(graphs[-1])
    return max(graphs, key=num_free)


def frozen_layers(recording):
    """Names of the layers some of whose weights are not trained, though they could be."""
    return {r.name for r in recording.all_calls() if r.inner is None and is_frozen(r.operation)}


def trace_recording(recording, exact=True, holds=State.ZERO, frozen=(), known=None):
    """The `ChannelGraph` of a model that is recorded already; see `trace`.

    Args:
        recording: The `Recording`.
        exact: See `trace`.
        holds: What removed channels hold at the sites. Defaults to zero, as behind a compactor;
            `State.CONSTANT` is for channels that are constants without one.
        frozen: Names of layers that are left whole: they keep all channels that they make, take up
            no compactor and no constant. Inputs that they no longer read may go.
        known: What was found out of alike calls, as of the model that this is a copy of.
    """
    return _Tracer(recording, exact, holds, frozenset(frozen), known).run()


class _Tracer:
    """Runs the rules over the recorded calls until nothing new is learnt."""

    def __init__(self, recording, exact, holds, frozen, known):
        self.recording = recording
        self.exact = exact
        self.holds = holds
        self.frozen = frozen
        self.known = {} if known is None else known
        self.calls = calls_of(recording, self)
        self._sharing = sharing(self.calls)
        self._inputs = keras.tree.flatten(recording.inputs)
        self._outputs = keras.tree.flatten(recording.outputs)
        self._calls_of = {}
        self._readers = {}
        self._makers = {tensor: call for call in self.calls for tensor in call.output_ids}
        for call in self.calls:
            self._calls_of.setdefault(id(call.operation), []).append(call)
            for tensor in call.input_ids:
                self._readers.setdefault(tensor, []).append(call)
        # Behind a producer whose only reader is a batch normalisation, the compactor stands
        # behind that one: operation id -> batch normalisation, and back.
        self._deferred = deferred(self._calls_of, self._readers, self._outputs, frozen)
        self._source = {id(norm): self._op_name(key) for key, norm in self._deferred.items()}
        self._leaders = set()  # those of which something else does need them
        self.followers = set()  # producers whose zeros a product does not need
        self.needed = set()  # layers behind which a diagonal compactor must stand
        self._forced = []  # pins found by an earlier pass: (labels, Pin)

    def _op_name(self, key):
        return self._calls_of[key][0].name

    def maker(self, tensor):
        return self._makers.get(tensor)

    def is_shared(self, operation):
        return len(self._calls_of[id(operation)]) > 1

    # What calls report ------------------------------------------------------------------------

    def labels_of(self, name, count):
        if name not in self.producers:
            self.producers[name] = self.labels.fresh(count)
            self._first_labels.append(int(self.producers[name][0]) if count else len(self.labels))
            self._first_names.append(name)
        return self.producers[name]

    def anchor(self, shape, pin):
        label = self.labels.fresh_pinned(pin)
        return Flow(np.full((1,) * len(shape), label), tuple(shape))

    def pin(self, labels, pin):
        self.pins.setdefault(pin)
        self.labels.pin(labels, pin)

    def pin_inexact(self, flow_in, pin):
        if self.exact:
            self.pin(flow_in.labels, pin)
        else:
            self.inexact.append((flow_in.labels, pin))
        return flow_in

    def stuck(self, call, labels, origins):
        self.problems.append((call, np.unique(labels), origins))

    def follow(self, stream, factor):
        """Note the producers of `factor`, which scales `stream`."""
        roots, others = self._roots_of(factor), self._roots_of(stream)
        if roots.isdisjoint(others):
            followers = self._producers_of(roots) - self._producers_of(others)
            self._new_followers |= followers - self._leaders

    def _producers_of(self, roots):
        members = [label for root in roots for label in self.labels.members(root)]
        return {self._producer_of(label) for label in members} - {None}

    def _producer_of(self, label):
        position = bisect.bisect_right(self._first_labels, label) - 1
        if position < 0:
            return None
        name = self._first_names[position]
        return name if label < self.producers[name][0] + len(self.producers[name]) else None

    def _roots_of(self, labels):
        return {self.labels.find(int(label)) for label in np.unique(labels)}

    def stand_before_norm(self, call):
        """Let the compactor of a producer stand in front of the batch norm that reads it."""
        norm = self._deferred.pop(id(call.operation), None)
        if norm is not None:
            self._source.pop(id(norm))

    def inner_labels(self, call, inside, count):
        name = f"{call.name}.{inside}"
        self._inner_of[name] = (call.name, inside)
        return self.labels_of(name, count)

    def inner_site(self, call, labels, inside):
        self._sites[call.name, inside] = (labels, None, True)

    def site(self, call, out, axis, scales, diagonal=False):
        if not scales:
            here = id(call.operation) not in self._deferred and call.name not in self.followers
            self._foldable.add(call.name)
        else:
            source = self._source.get(id(call.operation))
            behind_producer = source in self._foldable
            here = call.name in self.needed
            if behind_producer:
                here, scales = source not in self.followers, source in self._diagonal
            elif id(call.operation) not in self._deferred:
                self._spare[call.index] = call.name
        if diagonal:
            self._diagonal.add(call.name)
        if here:
            self._sites[call.name, None] = (out.labels, axis, scales or diagonal)
            return out.replace(state=np.full_like(out.state, self.holds), origins=frozenset())
        return out

    # Passes -----------------------------------------------------------------------------------

    def run(self):
        while True:
            self._run_rules()
            if self._new_followers - self.followers:
                self.followers |= self._new_followers
                continue
            if not self._solve():
                return self._graph()

    def _run_rules(self):
        self.labels = Labels()
        self.producers, self.pins, self.problems, self.inexact = {}, {}, [], []
        self._first_labels, self._first_names, self._inner_of = [], [], {}
        self._sites, self._spare, self._new_followers = {}, {}, set()
        self._diagonal, self._foldable = set(), set()
        flows = {
            id(t): self.anchor(t.shape, Pin(input_name(t), "a model input", PinKind.INPUT))
            for t in self._inputs
        }
        for call in self.calls:
            call.begin(flows[tensor] for tensor in call.input_ids)
            other = other_weights(call.operation)
            answer = flows_behind(call) if other is None else call.pin_all(*other)
            call.outputs = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
            self._join_calls(call)
            self._pin_shared(call)
            flows.update(zip(call.output_ids, call.outputs))
        for tensor in self._outputs:
            pin = Pin(OUTPUT, "an output of the model", PinKind.OUTPUT)
            for part in flows[id(tensor)].parts:
                self.pin(part.labels, pin)
                self.labels.pin_for(part.labels, pin)
        for labels, pin in self._forced:
            self.pin(labels, pin)
        settle_calls(self.calls, self.labels)

    def _join_calls(self, call):
        """A layer that is called twice reads, or shapes, the same channels each time."""
        first = self._calls_of[id(call.operation)][0]
        if call is first or not depends_on_channels(call.operation):
            return
        pairs = list(zip(call.inputs + call.outputs, first.inputs + first.outputs))
        if not read_alike(call, first):
            text = "a shared layer whose calls are not alike, as trying them has shown"
            for labels in (flow_in.labels for pair in pairs for flow_in in pair):
                self.pin(labels, Pin(call.name, text, PinKind.SHARED))
        for here, there in pairs:
            if here.labels.size == there.labels.size:
                self.labels.union(here.labels, there.labels)
                continue
            pinned = min(here.labels, there.labels, key=np.size)
            why = self.labels.pin_of(int(pinned.ravel()[0])) or "channels of another number"
            text = f"a shared layer that is also called on: {why}"
            for labels in (here.labels, there.labels):
                self.pin(labels, Pin(call.name, text, PinKind.SHARED))

    def _pin_shared(self, call):
        """Keep all channels of a layer whose weights another operation reads."""
        other = self._sharing.get(id(call.operation))
        if other is not None:
            inner = {name for name, (layer, _) in self._inner_of.items() if layer == call.name}
            made = [self.producers[n] for n in self.producers if n in {call.name, *inner}]
            for labels in (*made, *(flow.labels for flow in (*call.inputs, *call.outputs))):
                self.pin(labels, Pin(call.name, f"weights shared with '{other}'", PinKind.READ))

    def _solve(self):
        """Place diagonal compactors, then pin what none mends; returns whether anything was new."""
        news, placed = False, frozenset(self.needed)
        for call, labels, origins in self.problems:
            open_labels = [label for label in labels if self.labels.pin_of(label) is None]
            if not open_labels:
                continue
            mends = {self._spare[o] for o in origins if o in self._spare} - placed
            roots = {self.labels.find(int(label)) for label in open_labels}
            led = self._producers_of(roots) & self.followers
            if mends:
                self.needed |= mends
            elif led:  # more than the product needs their zeros
                self.followers -= led
                self._leaders |= led
            else:
                text = "removed channels would leave values here that no bias can hold"
                pin = Pin(call.name, text, PinKind.NO_BIAS)
                self._forced.append((np.array(open_labels), pin))
            news = True
        return news

    # Result -----------------------------------------------------------------------------------

    def _graph(self):
        roots = self.labels.roots()
        made = np.unique(np.concatenate([roots[m] for m in self.producers.values()] or [[]]))
        ids = np.full(len(roots), -1, np.int64)
        ids[made.astype(np.int64)] = np.arange(len(made))
        channel_of = np.array([*(ids[r] for r in roots), -1], np.int64)  # the last for WHOLE
        pins = {int(ids[r]): self.labels.pin_of(r) for r in made.astype(np.int64)}
        inexact = {
            int(channel): pin
            for labels, pin in self.inexact
            for channel in np.unique(channel_of[labels])
        }
        components = self._components(roots)
        sites = self._sites_of(components, channel_of, len(made))
        groups = [self._group(n, channel_of, pins, inexact, s) for n, s in zip(components, sites)]
        for call in self.calls:
            call.detach()
        return ChannelGraph(
            calls=tuple(self.calls),
            groups=tuple(groups),
            pins=tuple(self.pins),
            num_channels=len(made),
            channel_of=channel_of,
            recording=self.recording,
            holds=self.holds,
            frozen=self.frozen,
            known=self.known,
        )

    def _components(self, roots):
        """Producers that share a channel, in order of their first calls."""
        component = {}
        members = {}
        for name, labels in self.producers.items():
            merged = [name]
            for other in {component[r] for r in roots[labels].tolist() if r in component}:
                merged = members.pop(other) + merged
            key = merged[0]
            members[key] = merged
            for member in merged:
                component.update(dict.fromkeys(roots[self.producers[member]].tolist(), key))
        order = list(self.producers)
        return sorted(
            (sorted(m, key=order.index) for m in members.values()), key=lambda m: order.index(m[0])
        )

    def _sites_of(self, components, channel_of, num_channels):
        """For each component, the sites that any of its channels passes."""
        owner = np.zeros(num_channels, np.int64)
        for position, names in enumerate(components):
            for name in names:
                owner[channel_of[self.producers[name]]] = position
        sites = [[] for _ in components]
        activating = {call.name for call in self.calls if call.activates}
        for (layer, inside), (labels, axis, diagonal) in self._sites.items():
            ids = channel_of[labels].ravel()
            for position in np.unique(owner[ids[ids >= 0]]):
                site = Site(
                    layer, ids, axis, diagonal, inside, layer in activating and inside is None
                )
                sites[position].append(site)
        return sites

    def _group(self, names, channel_of, pins, inexact, sites):
        channels = np.unique(np.concatenate([channel_of[self.producers[n]] for n in names]))
        pinned = np.array([pins[int(c)] is not None for c in channels])
        reason = pins[int(channels[0])] if pinned.all() else None
        producers = [
            Producer(layer, channel_of[self.producers[name]], name in self.followers, inside)
            for name in names
            for layer, inside in [self._inner_of.get(name, (name, None))]
        ]
        changed = next((inexact[c] for c in channels.tolist() if c in inexact), None)
        return ChannelGroup(
            names[0],
            channels,
            tuple(producers),
            tuple(sites),
            pinned,
            reason,
            changed,
            tuple(pins[int(c)] for c in channels),
        )
