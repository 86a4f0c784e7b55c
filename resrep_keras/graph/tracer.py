"""Tracer: runs the rules over the recorded calls of a model until nothing new is learnt.

They run again whenever they have shown that a channel needs more than was assumed: a diagonal
compactor behind the layer that turns its zeros into constants, a producer that only follows a
product, or a pin.
"""

import bisect

import keras
import numpy as np

from resrep_keras.graph.call import calls_of
from resrep_keras.graph.deferred import deferred
from resrep_keras.graph.flow import depends_on_channels, flows_behind
from resrep_keras.graph.labels import Flow, Labels
from resrep_keras.graph.other_weights import other_weights
from resrep_keras.graph.pins import Pin, PinKind
from resrep_keras.graph.regular import settle_calls
from resrep_keras.graph.sharing import pairs_of_parts, read_alike, sharing
from resrep_keras.keras_adapter import input_name

# Stands for the model's outputs among the names of layers, none of which is like that.
OUTPUT = "(output)"


class Tracer:
    """Runs the rules over recorded calls; each `Call` reports to it what its layer does.

    Args:
        recording, exact, holds, frozen, known: See `trace_recording`.

    Attributes:
        calls: The `Call`s, in the order of execution.
        labels: The `Labels` of the last run of the rules.
        producers: ``{name: labels of the channels that a layer makes}``.
        inner_of: ``{name of such channels inside of a layer: (layer, inside)}``.
        sites: ``{(layer, inside): (labels, axis, diagonal)}``: where compactors stand.
        pins: The `Pin`s, as the keys of a dict.
        inexact: Pairs of labels and the `Pin` that says what their removal changes.
        followers: Producers whose zeros a product does not need.
    """

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
        self.inner_of[name] = (call.name, inside)
        return self.labels_of(name, count)

    def inner_site(self, call, labels, inside):
        self.sites[call.name, inside] = (labels, None, True)

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
            calls = self._calls_of[id(call.operation)]
            if len({len(each.output_shape) for each in calls}) > 1:  # that of each, from the last
                axis -= len(call.output_shape)
            self.sites[call.name, None] = (out.labels, axis, scales or diagonal)
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
                return

    def _run_rules(self):
        self.labels = Labels()
        self.producers, self.pins, self.problems, self.inexact = {}, {}, [], []
        self._first_labels, self._first_names, self.inner_of = [], [], {}
        self.sites, self._spare, self._new_followers = {}, {}, set()
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
        pairs = pairs_of_parts(call, first)
        if not read_alike(call, first):
            text = "a shared layer whose calls are not alike, as trying them has shown"
            for labels in (part.labels for pair in pairs for part in pair if part is not None):
                self.pin(labels, Pin(call.name, text, PinKind.SHARED))
        for here, there in pairs:
            if there is not None and here.labels.size == there.labels.size:
                self.labels.union(here.labels, there.labels)
                continue
            both = [part.labels for part in (here, there) if part is not None]
            pinned = min(both, key=np.size)
            why = self.labels.pin_of(int(pinned.ravel()[0])) or "channels of another number"
            why = "no channels along this axis" if there is None else why
            text = f"a shared layer that is also called on: {why}"
            for labels in both:
                self.pin(labels, Pin(call.name, text, PinKind.SHARED))

    def _pin_shared(self, call):
        """Keep all channels of a layer whose weights another operation reads."""
        other = self._sharing.get(id(call.operation))
        if other is not None:
            inner = {name for name, (layer, _) in self.inner_of.items() if layer == call.name}
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
