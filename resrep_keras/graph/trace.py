"""trace(model): the one pass that finds channel labels, groups, compactor sites and pins.

The calls of the model are recorded once. The rules of `flow` then run over them, and again
whenever they have shown that a channel needs more than was assumed: a gate behind the layer that
turns its zeros into constants, a producer that only follows a product, or a pin.
"""

import keras
import numpy as np

from resrep_keras.graph import walk
from resrep_keras.graph.call import Call
from resrep_keras.graph.channels import ChannelGraph, ChannelGroup, Flow, Labels, Producer, Site
from resrep_keras.graph.flow import flow, rule_of


def trace(model, input_shape=None):
    """Find out which channels of a model live and die together.

    Args:
        model: Functional or Sequential `keras.Model`.
        input_shape: Shape without the batch axis, for a model with unknown sizes whose costs are
            wanted. Defaults to the model's own.

    Returns:
        A `ChannelGraph`.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without a graph (unbuilt Sequential, subclassed).

    Example:

    >>> graph = resrep_keras.trace(keras.applications.ResNet50(weights=None))
    >>> [group.name for group in graph.groups if group.prunable][:2]
    ['conv1_conv', 'conv2_block1_1_conv']
    """
    walk.check_model(model)
    return _Tracer(model, input_shape).run()


class _Tracer:
    """Runs the rules over the recorded calls until nothing new is learnt."""

    def __init__(self, model, input_shape):
        self.calls = []
        self._inputs, self._outputs = walk.record(model, self._visit, input_shape)
        self._calls_of = {}
        self._readers = {}
        for call in self.calls:
            self._calls_of.setdefault(id(call.operation), []).append(call)
            for tensor in call.input_ids:
                self._readers.setdefault(tensor, []).append(call)
        # Behind a producer whose only reader is a batch normalisation, the compactor stands
        # behind that one: operation id -> batch normalisation, and back.
        self._deferred = self._find_deferred()
        self._source = {id(norm): self._op_name(key) for key, norm in self._deferred.items()}
        self.followers = set()  # producers whose zeros a product does not need
        self.gates = set()  # layers behind which a diagonal compactor must stand
        self._forced = []  # pins found by an earlier pass: (labels, layer name, reason)

    def _visit(self, operation, args, kwargs, outputs):
        tensors = walk.symbolic_tensors(args, kwargs)
        self.calls.append(Call(self, len(self.calls), operation, args, kwargs, tensors, outputs))

    def _op_name(self, key):
        return self._calls_of[key][0].name

    def is_shared(self, operation):
        return len(self._calls_of[id(operation)]) > 1

    def _find_deferred(self):
        deferred = {}
        outputs = {id(tensor) for tensor in self._outputs}
        for key, calls in self._calls_of.items():
            readers = [self._readers.get(t, []) for c in calls for t in c.output_ids]
            norms = {id(r[0].operation): r[0].operation for r in readers if len(r) == 1}
            alone = len(norms) == 1 and all(len(r) == 1 for r in readers)
            if not alone or any(t in outputs for c in calls for t in c.output_ids):
                continue
            norm = next(iter(norms.values()))
            linear = getattr(calls[0].operation, "activation", None) in (
                None,
                keras.activations.linear,
            )
            same_calls = len(self._calls_of[id(norm)]) == len(calls)
            if linear and same_calls and isinstance(norm, keras.layers.BatchNormalization):
                deferred[key] = norm
        return deferred

    # What calls report ------------------------------------------------------------------------

    def labels_of(self, operation, count):
        if operation.name not in self.producers:
            self.producers[operation.name] = self.labels.fresh(count)
        return self.producers[operation.name]

    def anchor(self, shape, name, reason):
        label = self.labels.fresh_pinned(f"{name}: {reason}")
        return Flow(np.full((1,) * len(shape), label), tuple(shape))

    def pin(self, labels, name, reason):
        self.pins.setdefault((name, reason))
        self.labels.pin(labels, f"{name}: {reason}")

    def stuck(self, call, labels, origins):
        self.problems.append((call, np.unique(labels), origins))

    def follow(self, stream, factor):
        """Note the producers of `factor`, which scales `stream`."""
        roots = self._roots_of(factor)
        if roots.isdisjoint(self._roots_of(stream)):
            self._new_followers |= {
                name for name, made in self.producers.items() if roots & self._roots_of(made)
            }

    def _roots_of(self, labels):
        return {self.labels.find(int(label)) for label in np.unique(labels)}

    def site(self, call, out, axis, gate):
        if not gate:
            here = id(call.operation) not in self._deferred and call.name not in self.followers
        else:
            source = self._source.get(id(call.operation))
            behind_producer = source in self.producers
            here = call.name in self.gates
            if behind_producer:
                here, gate = source not in self.followers, False
            elif id(call.operation) not in self._deferred:
                self._gateable[call.index] = call.name
        if here:
            self._sites[call.name] = (out.labels, axis, gate)
            return out.replace(state=np.zeros_like(out.state), origins=frozenset())
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
        self.producers, self.pins, self.problems = {}, {}, []
        self._sites, self._gateable, self._new_followers = {}, {}, set()
        flows = {id(t): self.anchor(t.shape, t.name, "a model input") for t in self._inputs}
        for call in self.calls:
            call.inputs = tuple(flows[tensor] for tensor in call.input_ids)
            answer = rule_of(flow, call.operation)(call.operation, call)
            call.outputs = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
            self._join_calls(call)
            flows.update(zip(call.output_ids, call.outputs))
        for tensor in self._outputs:
            self.pin(flows[id(tensor)].labels, "output", "an output of the model")
        for labels, name, reason in self._forced:
            self.pin(labels, name, reason)

    def _join_calls(self, call):
        """A layer that is called twice reads, or shapes, the same channels each time."""
        first = self._calls_of[id(call.operation)][0]
        if call is first or not _depends_on_channels(call.operation):
            return
        for here, there in zip(call.inputs + call.outputs, first.inputs + first.outputs):
            if here.labels.size == there.labels.size:
                self.labels.union(here.labels, there.labels)
            else:
                self.pin(here.labels, call.name, "a shared layer that is called in several ways")
                self.pin(there.labels, call.name, "a shared layer that is called in several ways")

    def _solve(self):
        """Place gates, then pin what no gate mends; returns whether anything was new."""
        news = False
        for call, labels, origins in self.problems:
            open_labels = [label for label in labels if self.labels.reason(label) is None]
            if not open_labels:
                continue
            gates = {self._gateable[o] for o in origins if o in self._gateable} - self.gates
            if gates:
                self.gates |= gates
            else:
                reason = "removed channels would leave values here that no bias can hold"
                self._forced.append((np.array(open_labels), call.name, reason))
            news = True
        return news

    # Result -----------------------------------------------------------------------------------

    def _graph(self):
        roots = self.labels.roots()
        made = np.unique(np.concatenate([roots[m] for m in self.producers.values()] or [[]]))
        ids = np.full(len(roots), -1, np.int64)
        ids[made.astype(np.int64)] = np.arange(len(made))
        channel_of = np.array([ids[r] for r in roots], np.int64)
        reasons = {int(ids[r]): self.labels.reason(r) for r in made.astype(np.int64)}
        components = self._components(roots)
        sites = self._sites_of(components, channel_of, len(made))
        groups = [self._group(n, channel_of, reasons, s) for n, s in zip(components, sites)]
        for call in self.calls:
            call.detach()
        return ChannelGraph(
            calls=tuple(self.calls),
            groups=tuple(groups),
            pins=tuple(self.pins),
            num_channels=len(made),
            channel_of=channel_of,
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
        for layer, (labels, axis, gate) in self._sites.items():
            ids = channel_of[labels].ravel()
            for position in np.unique(owner[ids[ids >= 0]]):
                sites[position].append(Site(layer, ids, axis, gate))
        return sites

    def _group(self, names, channel_of, reasons, sites):
        channels = np.unique(np.concatenate([channel_of[self.producers[n]] for n in names]))
        pinned = np.array([reasons[int(c)] is not None for c in channels])
        reason = reasons[int(channels[0])] if pinned.all() else None
        producers = [Producer(n, channel_of[self.producers[n]], n in self.followers) for n in names]
        return ChannelGroup(names[0], channels, tuple(producers), tuple(sites), pinned, reason)


def _depends_on_channels(operation):
    return bool(getattr(operation, "weights", ())) or isinstance(operation, keras.layers.Reshape)
