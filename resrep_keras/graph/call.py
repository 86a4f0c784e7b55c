"""One call of a layer: what a rule reads, and the words in which it answers."""

import keras
import numpy as np

from resrep_keras.graph.labels import Flow, State
from resrep_keras.graph.pins import Pin, PinKind
from resrep_keras.graph.recording import around, symbolic_tensors
from resrep_keras.graph.together import in_a_row, merged, multiplied


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
        gathered: Labels of channels of which one must stay, as a sum over them needs it.
        summed: Axes over which channels are summed up, or averaged, with the constants they hold.
        inside: ``{name: labels}`` of channels that the layer holds inside.
        activates: Whether the last thing the layer does is to apply its `activation`.
        activation: That function; `None` where there is none.
        found: What trying the operation has shown, where no rule is registered: it answers `narrow`
            in the place of one. `None` for what has a rule, and what has shown nothing.
        is_unclear: Whether trying the operation has shown less than what it does with its channels.
        batched: Whether the first axis of its tensors is that of the examples.
        memo: What a rule has found out about this call, kept from one pass to the next.
        known: What was found out about all calls of the model, for those that are alike.
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
        self.known = tracer.known
        self.begin(())

    def begin(self, inputs):
        """Forget the answers of an earlier pass."""
        self.inputs = tuple(inputs)
        self.outputs = ()
        self.axis_in = self.axis_out = None
        self.consumed = {}
        self.gathered = ()
        self.summed = ()
        self.inside = {}
        self.activates = False
        self.activation = None
        self.found = None
        self.is_unclear = False

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

    def maker(self, position):
        """The `Call` that makes an input; `None` of an input of the model."""
        return self._tracer.maker(self.input_ids[position])

    def is_pinned(self, flow):
        """Whether all channels of a flow are kept, by what is known up to here."""
        labels = [label for part in flow.parts for label in np.unique(part.labels)]
        return all(self._tracer.labels.pin_of(int(label)) is not None for label in labels)

    # What rules say ---------------------------------------------------------------------------

    def pin(self, flow, text, kind=PinKind.OTHER, remedy=None):
        """Keep all channels of `flow`.

        Args:
            flow: The `Flow`.
            text: Why, in words that complete "Pinned by <layer>: ...".
            kind: A `PinKind`, which says what a user can do.
            remedy: What a user can do, in words of the rule's own.
        """
        for part in flow.parts:
            self._tracer.pin(part.labels, Pin(self.name, text, kind, remedy))
        return flow

    def pin_all(self, text, kind=PinKind.OTHER, remedy=None):
        """Keep all inputs, and give the outputs channels that are kept for the same reason."""
        for flow in self.inputs:
            self.pin(flow, text, kind, remedy)
        pin = Pin(self.name, text, kind, remedy)
        return [self._tracer.anchor(shape, pin) for shape in self.output_shapes]

    def hand_on(self):
        """Outputs that are made of inputs all of whose channels are kept: for the same reason."""
        labels = [label for flow in self.inputs for label in np.unique(flow.labels)]
        pins = [self._tracer.labels.pin_of(int(label)) for label in labels]
        pin = next(filter(None, pins), Pin(self.name, "it has a single channel", PinKind.SINGLE))
        for flow in self.inputs:
            self._tracer.pin(flow.labels, pin)
        return [self._tracer.anchor(shape, pin) for shape in self.output_shapes]

    def pin_inexact(self, flow, text):
        """Keep the channels, as removing them changes outputs, unless the user allows that."""
        return self._tracer.pin_inexact(flow, Pin(self.name, text, PinKind.INEXACT))

    @property
    def allows_inexact(self):
        """Whether channels may go although that changes outputs; see `trace`."""
        return not self._tracer.exact

    def couple(self, first, second):
        """Make the channels of two flows equal, or two arrays of labels."""
        labels = [v.labels if isinstance(v, Flow) else v for v in (first, second)]
        self._tracer.labels.union(*np.broadcast_arrays(*labels))

    def tie(self, flow, groups):
        """Couple the channels of the same position in each of `groups` equal groups."""
        rows = flow.labels.reshape(groups, -1)
        self.couple(rows, rows[:1])

    def neutral(self, shape, text="a tensor without channels", kind=PinKind.OTHER, remedy=None):
        """The flow of a tensor that carries no channels, such as attention scores; see `pin`."""
        return self._tracer.anchor(shape, Pin(self.name, text, kind, remedy))

    def settle(self, flow, *axes):
        """The flow with channels along one of several `axes`: the longest, the last of equals.

        Entries that differ along the others only are coupled. The axes default to all, of which
        those that channels lie along count.
        """
        wide = [axis for axis in axes or flow.wide_axes if axis in flow.wide_axes]
        if len(flow.wide_axes) < 2 or not wide:
            return flow
        settled = flow.only_along(max(wide, key=lambda axis: (flow.labels.shape[axis], axis)))
        self.couple(flow, settled)
        return settled

    def vector(self, flow, axis):
        """The flow with one label for each entry of `axis`; pinned where channels lie elsewhere.

        Where they lie along this axis and others, what differs along those only is coupled.
        """
        if flow is self.inputs[0]:
            self.axis_in = axis
        others = [other for other in flow.wide_axes if other != axis]
        if others and axis in flow.wide_axes:
            flow = self.settle(flow, axis)
        elif others:
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

    def fresh(self, shape):
        """Labels of channels that no weights make, such as zeros at the ends of others."""
        return self._tracer.labels.fresh(int(np.prod(shape))).reshape(shape)

    def gather(self, flow):
        """All channels make something together in which zeros do not count; one of them stays."""
        self.need_one(flow)
        return self.require(flow)

    def sum_up(self, flow, axes, folds):
        """As `gather`, where what removed channels hold may be added behind: it is known then.

        Args:
            axes: Those that are summed over.
            folds: The hardest `State` that may be added.
        """
        self.need_one(flow)
        self.summed = tuple(axes)
        sizes = (*self.output_shape[1:], *(flow.shape[axis] for axis in axes))
        return self.require(flow, State.ZERO if None in sizes else folds)

    def need_one(self, *flows):
        """One channel of each of these flows stays."""
        self.gathered = (*self.gathered, *(flow.labels for flow in flows if flow.wide_axes))

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

    def consume(self, flow, axis, folds=State.ZERO, padded=False, beside=()):
        """Weights read `flow` along `axis`: removed channels must hold what can be folded.

        Args:
            folds: The hardest `State` that becomes part of a bias.
            padded: Whether the weights also read zeros beyond the border.
            beside: What `beside` has found, whose channels pass.
        """
        position = next(i for i, other in enumerate(self.inputs) if other is flow)
        if beside and not position:
            self.axis_in = axis
        flow = flow.along(axis) if beside else self.vector(flow, axis)
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

        def constant(part):
            state = np.maximum(part.state, State.CONSTANT).astype(np.int8)
            return part.replace(state=state, origins=part.origins | {self.index})

        return flow.each(constant)

    def uneven(self, flow):
        """Constants differ at the border behind this call."""

        def uneven(part):
            state = np.where(part.state == State.CONSTANT, State.FIXED, part.state)
            return part.replace(state=state.astype(np.int8), shape=self.output_shape)

        return flow.each(uneven)

    def merge(self, flows):
        """Element-wise sum and its like: channels become equal, and all must be zero."""
        return merged(self, flows)

    def multiply(self, flows):
        """Element-wise product: channels become equal, and one zero factor is enough."""
        return multiplied(self, flows)

    def concatenate(self, flows, axis):
        """All flows in a row: channels too, where they lie along `axis`."""
        return in_a_row(self, flows, axis)

    def follow(self, stream, factor):
        """Of a product, the largest factor is the stream; what scales it needs no compactor."""
        self._tracer.follow(stream.labels, factor.labels)

    def plain(self, flow):
        """The flow with channels along one axis, as most rules take it: the last that may go."""
        *others, last = sorted(
            flow.parts, key=lambda part: (not self.is_pinned(part), max(part.wide_axes, default=0))
        )
        for other in others:
            text = "it takes channels along one axis, and those of another axis lie across them"
            self.pin(other, text, PinKind.AXES)
        return last

    def beside(self, flow, axis):
        """The parts of a flow whose channels pass where weights read another axis alone."""
        parts = [part for part in flow.parts if part.wide_axes]
        if not all(len(part.wide_axes) == 1 for part in parts):
            return ()
        return tuple(part for part in parts if axis not in part.wide_axes)

    def mixed(self, parts, shifts):
        """What becomes of channels where weights mix the entries of another axis.

        Args:
            parts: What `beside` has found.
            shifts: Whether something is added that differs between those entries.
        """
        least = State.FIXED if shifts else State.ZERO
        found = []
        for part in parts:
            fixed = np.where(part.state == State.CONSTANT, State.FIXED, part.state)
            state = np.maximum(fixed, least).astype(np.int8)
            found.append(part.replace(state=state, origins=part.origins | {self.index}))
        return found

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
