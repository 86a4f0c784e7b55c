"""One call of a layer: what a rule reads, and the words in which it answers."""

import keras
import numpy as np

from resrep_keras.graph.labels import Flow, State
from resrep_keras.graph.pins import Pin, PinKind
from resrep_keras.graph.recording import around, symbolic_tensors


class Call:
    """One call of a layer or operation: what a rule of `flow` or `macs` reads and answers with.

    Attributes:
        operation: The layer or raw `keras.ops` operation.
        name: Its name, unique in the model.
        index: Position in the order of execution.
        repeats: How often it is called for one example; `None` where that is unknown.
        path: Names of the models and composite layers around the call.
        closed: What raised where the inside of the layer was looked at, in words, or `None`.
        frozen: Whether the layer's weights stay as they are: some may go, none may change.
        args, kwargs: The arguments of the call, symbolic tensors included.
        inputs, outputs: One `Flow` for each symbolic tensor.
        tensors: The recorded input and output tensors.
        output_shapes: Their shapes.
        axis_in, axis_out: Axes along which the layer's weights see channels, or `None`.
        consumed: ``{position of an input: axis}`` where weights mix its channels.
        inside: ``{name: labels}`` of channels that the layer holds inside.
        activates: Whether the last thing the layer does is to apply its `activation`.
        activation: That function; `None` where there is none.
        batched: Whether the first axis of its tensors is that of the examples.
        memo: What a rule has found out about this call, kept from one pass to the next.
    """

    def __init__(self, tracer, index, recorded, repeats):
        self._tracer = tracer
        self.index = index
        self.operation = recorded.operation
        self.name = recorded.name
        self.repeats = repeats
        self.path = recorded.path
        self.closed = recorded.closed
        self.frozen = recorded.name in tracer.frozen
        self.args = recorded.args
        self.kwargs = recorded.kwargs
        outputs = keras.tree.flatten(recorded.outputs)
        tensors = symbolic_tensors(recorded.args, recorded.kwargs)
        self.tensors = tuple(tensors), tuple(outputs)  # kept alive: their ids are names
        self.output_shapes = tuple(tuple(tensor.shape) for tensor in outputs)
        self.batched = True
        self.memo = {}
        self.begin(())

    def begin(self, inputs):
        """Forget the answers of an earlier pass."""
        self.inputs = tuple(inputs)
        self.outputs = ()
        self.axis_in = self.axis_out = None
        self.consumed = {}
        self.inside = {}
        self.activates = False
        self.activation = None

    @property
    def input_ids(self):
        return [id(tensor) for tensor in self.tensors[0]]

    @property
    def output_ids(self):
        return [id(tensor) for tensor in self.tensors[1]]

    @property
    def input(self):
        return self.inputs[0]

    @property
    def output_shape(self):
        return self.output_shapes[0]

    @property
    def is_shared(self):
        """Whether the layer is called more than once."""
        return self._tracer.is_shared(self.operation)

    # What rules read --------------------------------------------------------------------------

    def argument(self, name, position):
        """The argument `name`, passed by keyword or in `position`; `None` where it is not given."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[position] if position < len(self.args) else None

    def flows_of(self, argument):
        """The flows of the symbolic tensors in an argument."""
        by_id = dict(zip(self.input_ids, self.inputs))
        return [by_id[id(tensor)] for tensor in symbolic_tensors(argument, {})]

    # What rules say ---------------------------------------------------------------------------

    def pin(self, flow, text, kind=PinKind.OTHER, remedy=None):
        """Keep all channels of `flow`.

        Args:
            flow: The `Flow`.
            text: Why, in words that complete "Pinned by <layer>: ...".
            kind: A `PinKind`, which says what a user can do.
            remedy: What a user can do, in words of the rule's own.
        """
        self._tracer.pin(flow.labels, Pin(self.name, text, kind, remedy))
        return flow

    def pin_all(self, text, kind=PinKind.OTHER, remedy=None):
        """Keep all inputs, and give the outputs channels that are kept for the same reason."""
        for flow in self.inputs:
            self.pin(flow, text, kind, remedy)
        pin = Pin(self.name, text, kind, remedy)
        return [self._tracer.anchor(shape, pin) for shape in self.output_shapes]

    def pin_inexact(self, flow, text):
        """Keep the channels, as removing them changes outputs, unless the user allows that."""
        return self._tracer.pin_inexact(flow, Pin(self.name, text, PinKind.INEXACT))

    def couple(self, first, second):
        """Make the channels of two flows equal, or two arrays of labels."""
        labels = [v.labels if isinstance(v, Flow) else v for v in (first, second)]
        self._tracer.labels.union(*np.broadcast_arrays(*labels))

    def tie(self, flow, groups):
        """Couple the channels of the same position in each of `groups` equal groups."""
        rows = flow.labels.reshape(groups, -1)
        self.couple(rows, rows[:1])

    def neutral(self, shape):
        """The flow of a tensor that carries no channels, such as attention scores."""
        return self._tracer.anchor(shape, Pin(self.name, "a tensor without channels"))

    def vector(self, flow, axis):
        """The flow with one label for each entry of `axis`; pinned where channels lie elsewhere."""
        if flow is self.inputs[0]:
            self.axis_in = axis
        others = [other for other in flow.wide_axes if other != axis]
        if others:
            text = (
                f"it works along axis {axis} of a tensor whose channels lie along axis {others[0]}"
            )
            self.pin(flow, text, PinKind.AXES)
            return self._tracer.anchor(flow.shape, Pin(self.name, text, PinKind.AXES))
        return flow.expanded([axis])

    def produce(self, axis, count):
        """New channels along `axis` of the first output; the same ones at each call of a layer."""
        self.axis_out = axis
        labels = self._tracer.labels_of(self.name, count)
        self._keep_frozen(labels)
        shape = [1] * len(self.output_shape)
        shape[axis] = count
        state = State.VARYING if self.name in self._tracer.followers else State.ZERO
        return Flow(
            labels.reshape(shape), self.output_shape, np.full(shape, state, np.int8), frozenset()
        )

    def inner_channels(self, name, count):
        """Channels inside the layer, such as heads; a gate scales them. Returns their labels."""
        self.inside[name] = self._tracer.inner_labels(self, name, count)
        self._keep_frozen(self.inside[name])
        if not self.frozen:
            self._tracer.inner_site(self, self.inside[name], name)
        return self.inside[name]

    def gate_outputs(self, flow, name):
        """A gate inside the layer scales its outputs, such as the units of a recurrent layer."""
        self.inside[name] = flow.labels.ravel()
        if not self.frozen:
            self._tracer.inner_site(self, self.inside[name], name)
        return flow

    def _keep_frozen(self, labels):
        if self.frozen:
            text = "its weights are frozen (trainable=False)"
            self._tracer.pin(labels, Pin(self.name, text, PinKind.FROZEN))

    def consume(self, flow, axis, folds=State.ZERO, padded=False):
        """Weights read `flow` along `axis`: removed channels must hold what can be folded.

        Args:
            folds: The hardest `State` that becomes part of a bias.
            padded: Whether the weights also read zeros beyond the border.
        """
        position = next(i for i, other in enumerate(self.inputs) if other is flow)
        flow = self.vector(flow, axis)
        self.consumed[position] = axis
        fixed = padded or position or self.is_shared or self.frozen
        allowed = State.ZERO if fixed else folds
        return self.require(flow, allowed)

    def require(self, flow, allowed=State.ZERO):
        """Removed channels hold at most `allowed`: compactors are placed, or channels pinned."""
        stuck = flow.state > allowed
        if stuck.any():
            self._tracer.stuck(self, flow.labels[stuck], flow.origins)
        return flow

    def site(self, flow, axis, scales=False, diagonal=False, shifts=True):
        """A compactor can stand here: behind a producer, or a diagonal one behind a fixed scale.

        Args:
            scales: Whether the layer only scales channels, and needs a compactor in rare cases.
            diagonal: Whether a producer cannot take up a full matrix (a grouped convolution).
            shifts: Whether a producer can take up a bias.
        """
        self.axis_out = axis
        if self.frozen:  # it takes up nothing
            return flow
        if not shifts:
            self._tracer.stand_before_norm(self)
        return self._tracer.site(self, flow, axis, scales, diagonal)

    def constant(self, flow):
        """Zeros become a constant here."""
        state = np.maximum(flow.state, State.CONSTANT).astype(np.int8)
        return flow.replace(state=state, origins=flow.origins | {self.index})

    def uneven(self, flow):
        """Constants differ at the border behind this call."""
        state = np.where(flow.state == State.CONSTANT, State.FIXED, flow.state).astype(np.int8)
        return flow.replace(state=state, shape=self.output_shape)

    def merge(self, flows):
        """Element-wise sum and its like: channels become equal, and all must be zero."""
        aligned, why, kind = self._align(flows)
        if aligned is None:
            return self.pin_all(f"an element-wise operation {why}", kind)
        first, *others = aligned
        state = first.state
        for other in others:
            self._tracer.labels.union(first.labels, other.labels)
            state = np.maximum(state, other.state)
        return first.replace(
            shape=self.output_shape,
            state=state,
            origins=frozenset().union(*(flow.origins for flow in flows)),
        )

    def multiply(self, flows):
        """Element-wise product: channels become equal, and one zero factor is enough."""
        wide = [f for f in flows if not self._broadcasts_channels(f)]
        if len(wide) < len(flows):
            for narrow in flows:
                if self._broadcasts_channels(narrow):
                    self.pin(narrow, "a factor that is broadcast over channels", PinKind.BROADCAST)
        aligned, why, kind = self._align(wide)
        if aligned is None:
            return self.pin_all(f"a product {why}", kind)
        state = np.max([f.state for f in aligned], axis=0)
        if len(wide) < len(flows):
            state = np.full_like(state, State.VARYING)
        state = np.where(np.min([f.state for f in aligned], axis=0) == State.ZERO, 0, state)
        # The largest factor is the stream; what scales it follows.
        sizes = [np.prod([n or 1 for n in f.shape[1:]]) for f in wide]
        stream = int(np.argmax(sizes))
        for position, other in enumerate(aligned):
            if position != stream:
                self._tracer.follow(aligned[stream].labels, other.labels)
                self._tracer.labels.union(aligned[stream].labels, other.labels)
        return aligned[stream].replace(
            shape=self.output_shape,
            state=state.astype(np.int8),
            origins=frozenset().union(*(flow.origins for flow in flows)),
        )

    def concatenate(self, flows, axis):
        """The channels of all flows in a row, where `axis` is their channel axis."""
        if any(flow.shape[axis] is None for flow in flows):
            return self.pin_all("a concatenation of unknown sizes", PinKind.UNKNOWN_SIZE)
        flows = [flow.expanded([axis]) for flow in flows]
        shapes = [np.array(flow.labels.shape) for flow in flows]
        common = np.max(shapes, axis=0)
        common[axis] = 0
        parts = []
        for flow, shape in zip(flows, shapes):
            target = np.where(np.arange(len(shape)) == axis, shape, common)
            parts.append([np.broadcast_to(a, target) for a in (flow.labels, flow.state)])
        whole = Flow(
            np.concatenate([labels for labels, _ in parts], axis),
            self.output_shape,
            np.concatenate([state for _, state in parts], axis),
            frozenset().union(*(flow.origins for flow in flows)),
        )
        whole = whole.map(lambda a: a, self.output_shape)
        if whole.channel_axis is None:
            return self.pin_all("a concatenation along another axis than the channels'")
        return whole

    def _broadcasts_channels(self, flow):
        axes = {f.channel_axis for f in self.inputs if f.labels.size > 1}
        return any(
            axis is not None
            and axis < len(flow.shape)
            and flow.shape[axis] == 1
            and self.output_shape[axis] != 1
            for axis in axes
        )

    def _align(self, flows):
        """Flows with equally shaped labels; or `None`, why channels do not match, a `PinKind`."""
        if len({len(flow.shape) for flow in flows}) > 1:
            return None, "of tensors of different ranks", PinKind.BROADCAST
        if any(self._broadcasts_channels(flow) for flow in flows):
            return None, "that broadcasts over channels", PinKind.BROADCAST
        wide = [axis for flow in flows for axis in flow.wide_axes]
        # A single channel that lies along other axes meets all channels of the other tensors.
        single = wide and any(
            not flow.wide_axes and self._tracer.labels.pin_of(int(flow.labels.item())) is None
            for flow in flows
        )
        if len(set(wide)) > 1 or single:
            return None, "of tensors whose channels lie along different axes", PinKind.AXES
        shape = np.max([flow.labels.shape for flow in flows], axis=0)
        aligned = [
            f.replace(
                labels=np.broadcast_to(f.labels, shape), state=np.broadcast_to(f.state, shape)
            )
            for f in flows
        ]
        return aligned, None, None

    def detach(self):
        """Forget the tracer once the graph is complete."""
        self._tracer = None


def calls_of(recording, tracer, repeats=1, found=None):
    """The `Call`s of a recording; those of an inner recording stand between `Enter` and `Leave`.

    Args:
        recording: The `Recording`.
        tracer: What the calls tell what rules say.
        repeats: How often the recording is played for one example; `None` if unknown.
        found: The calls before. Defaults to none.
    """
    found = [] if found is None else found
    for recorded in recording.calls:
        if recorded.inner is None:
            found.append(Call(tracer, len(found), recorded, repeats))
            continue
        enter, leave = around(recorded)
        found.append(Call(tracer, len(found), enter, 1))
        times = enter.args[0].shape[1]
        calls_of(recorded.inner, tracer, repeats and times and repeats * times, found)
        found.append(Call(tracer, len(found), leave, 1))
    return found
