"""Whether channels pass through a layer that has no rule, found by trying.

A choice of channels is made before the layer, which a copy of it then reads, or behind it: where
both give the same, each channel that comes out is made of one that comes in.
"""

import dataclasses
import functools

import numpy as np
from keras import ops

from resrep_keras.graph.labels import Flow, State, canonical
from resrep_keras.graph.pins import PinKind
from resrep_keras.rules.multiplied import terms_of
from resrep_keras.surgery.choosing import (
    as_selected,
    axes_that_shrink,
    choices,
    chosen,
    copy_for,
    kinds_for,
    narrowed,
    ways_to_take,
)
from resrep_keras.surgery.narrow import weight_values
from resrep_keras.surgery.outputs import Scaled, Selected
from resrep_keras.surgery.trial import KINDS, OtherOutputs, Unlike, alike

NORMAL = KINDS.index("normal")


@dataclasses.dataclass(frozen=True)
class Passes:
    """Channels that come in go out.

    Args:
        axes: ``{position of an input: axis}`` where they come in.
        width: How many they are.
        outputs: For each output, its axis and which channel each entry comes from, -1 for one that
            comes from none.
        weights: For each weight, the axes along which it has an entry for each channel.
        key: The entry of the configuration that holds their number; `None` where none does.
        needs_zeros: Whether that holds only where the channels that go are zero.
        zeros, constants: The `State` of channels that are zero, or constant, before the layer;
            `None` where they have no finite value.
        one_is_enough: Whether a channel is zero as soon as one of the inputs is.
        rows_stay: Whether each example comes out as one entry of the first axis, as it came in.
        cost: What the layer multiplies, see `find_cost`.
        scales: For each weight, whether it takes up a factor for each channel; `None` where that
            gives something else.
    """

    axes: dict
    width: int
    outputs: tuple
    weights: tuple
    key: str | None = None
    needs_zeros: bool = False
    zeros: State | None = State.ZERO
    constants: State = State.CONSTANT
    one_is_enough: bool = False
    scales: tuple | None = None
    rows_stay: bool = False
    cost: dict | None = None

    whole = True  # nothing was found out that keeps channels

    @property
    def in_place(self):
        """Whether the first output has the same channels as what came in."""
        return np.array_equal(self.outputs[0][1], np.arange(self.width))

    @property
    def what_weights_read(self):
        """What two calls of one layer must have in common."""
        return self.weights, self.key

    def narrow(self, layer, part):
        """The answer of `narrow`."""
        keep = part.keep_out if self.in_place else part.keep_in[min(self.axes)]
        keep = keep if self.in_place else Selected(keep)
        values = narrowed(
            weight_values(layer) if self.weights else [], self.weights, keep, self.scales
        )
        return {} if self.key is None else {self.key: keep.width}, values

    def terms(self, call):
        """The answer of `macs`; `None` where it is not known."""
        first = min(self.axes)
        return None if self.cost is None else terms_of(self.cost, call, {first: self.axes[first]})

    def making(self, layer):
        """The answer of `producing_weights`: it makes no channels."""
        del layer

    def flows(self, call):
        """The answer of `flow`."""
        call.axis_in, call.axis_out = self.axes.get(0), self.outputs[0][0]
        for position in set(range(len(call.inputs))) - self.axes.keys():
            text = "a factor or summand that all channels have in common"
            call.pin(call.inputs[position], text, PinKind.BROADCAST)
        wide = [call.inputs[position] for position in self.axes]
        if self.needs_zeros:
            wide = [call.require(flow) for flow in wide]
        rows = [_row(flow, axis, self.width) for flow, axis in zip(wide, self.axes.values())]
        joined = rows[0]
        if len(rows) > 1:
            joined = call.multiply(rows) if self.one_is_enough else call.merge(rows)
        found = [
            self._output(call, joined, *output, shape)
            for output, shape in zip(self.outputs, call.output_shapes)
        ]
        if self.scales and len(found) == 1:
            return call.site(found[0], call.axis_out, scales=True)
        return found

    def _output(self, call, flow_in, axis, sources, shape):
        labels, state = flow_in.labels.ravel()[sources], flow_in.state.ravel()[sources]
        if (sources < 0).any():
            own = call.neutral(shape).labels.ravel()[0]
            labels = np.where(sources < 0, own, labels)
        if self.zeros is None:
            text = "no finite value where a removed channel is zero"
            zero = flow_in.replace(labels=labels[state == State.ZERO])
            call.pin(zero, text, PinKind.NOT_FINITE)
        after = self.states[state]
        origins = flow_in.origins
        if (after != state).any():
            origins = origins | {call.index}
        along = [-1 if other == axis else 1 for other in range(len(shape))]
        labels, after = labels.reshape(along), after.reshape(along)
        after = after if canonical(labels).size > 1 else after.max(keepdims=True)
        return Flow(canonical(labels), tuple(shape), after, origins)

    @property
    def states(self):
        """The `State` behind the layer of each `State` before it."""
        zeros = State.CONSTANT if self.zeros is None else self.zeros
        fixed = max(State.FIXED, self.constants)
        return np.array([zeros, max(State.CONSTANT, self.constants), fixed, State.VARYING], np.int8)


def _row(flow, axis, width):
    """The channels of a flow alone: other axes are those of positions, whatever their number."""
    flow = flow.replace(shape=(*flow.shape[:axis], width, *flow.shape[axis + 1 :])).along(axis)
    labels, state = flow.labels.reshape(1, -1), flow.state.reshape(1, -1)
    return flow.replace(labels=labels, state=state, shape=(None, width))


# --- trying --------------------------------------------------------------------------------------


def find_passing(trial, axes, width):
    """Find out by trying how channels pass through a layer: `Passes`.

    Args:
        trial: The `Trial` of the call.
        axes: ``{position of an input: axis}`` where channels are chosen together.
        width: Their number.

    Raises:
        Unlike: They do not, in words that go on from "choosing channels".
    """
    search = Search(trial, axes, width)
    try:
        return search.found(needs_zeros=False)
    except Unlike as unlike:
        try:
            return search.found(needs_zeros=True)
        except Unlike:
            raise unlike from None


class Search:
    """Tries choices of channels on the arrays of a trial; see `find_passing`."""

    def __init__(self, trial, axes, width):
        self.trial = trial
        self.axes, self.width = axes, width
        self.choices = choices(width)

    def found(self, needs_zeros):
        """`Passes`, or `Unlike` is raised."""
        copies, key = copy_for(self.trial, self.axes, self.width, list(map(len, self.choices)))
        weights = axes_that_shrink(self.trial, copies[0], self.width, len(self.choices[0]))
        outputs = tuple(self._outputs(copies[0]))
        passes = Passes(self.axes, self.width, outputs, weights, key)
        passes = dataclasses.replace(passes, needs_zeros=needs_zeros, rows_stay=self._rows_stay())
        for number, choice in enumerate(self.choices):
            for kind in kinds_for(number):
                self.check(passes, copies[number], choice, kind)
        if self.trial.may_train:
            self._check_training(passes, copies[0], self.choices[0])
        return self._with_states(passes, copies[0])

    # Outputs --------------------------------------------------------------------------------------

    def _outputs(self, copy):
        """The axis of each output, and the channel that each entry comes from."""
        for position, (whole, spec) in enumerate(zip(self.trial.output_shapes, copy.specs)):
            if len(spec.shape) != len(whole):
                raise OtherOutputs("before it changes the rank of what it makes")
            pairs = list(zip(whole, spec.shape))
            axes = [a for a, (old, new) in enumerate(pairs) if a and new is not None and old != new]
            if len(axes) != 1:
                raise OtherOutputs(
                    "before it changes its outputs, and not their number of channels"
                    if not axes
                    else "before it changes several axes of what it makes"
                )
            yield axes[0], self._sources(position, axes[0])

    def _sources(self, position, axis):
        """Which channel each entry of an output comes from, -1 for one that comes from none.

        Each channel is told by the bits of its number: those with the same bit are drawn anew.
        """
        count = self.trial.outputs[NORMAL][position].shape[axis]
        if count == self.width:
            return np.arange(count)
        codes = np.arange(1, self.width + 1)
        found = np.zeros(count, np.int64)
        for bit in range(int(self.width).bit_length()):
            told = np.flatnonzero(codes >> bit & 1)
            for kind in range(2):
                arrays = self._mixed(kind, told)
                other = self.trial.run(arrays, self.trial.weights[kind])[position]
                differs = other != self.trial.outputs[kind][position]
                differs = differs.any(axis=tuple(a for a in range(differs.ndim) if a != axis))
                found |= differs.astype(np.int64) << bit
        if found.max(initial=0) > self.width:
            raise Unlike("shows outputs that are made of several channels")
        return found - 1

    def _mixed(self, kind, drawn_anew, seed=50):
        """The inputs of a kind, some channels drawn anew."""
        fresh = self.trial.redrawn(KINDS[kind], seed)
        return self._with(self.trial.inputs[kind], fresh, drawn_anew)

    def _with(self, arrays, others, where):
        """Arrays with some channels of others."""
        found = list(arrays)
        for position, axis in self.axes.items():
            here = (slice(None),) * axis + (where,)
            array = np.array(ops.convert_to_numpy(arrays[position]))
            array[here] = ops.convert_to_numpy(others[position])[here]
            found[position] = ops.convert_to_tensor(array)
        return found

    def _rows_stay(self):
        """Whether all that the layer makes has the shape of what it reads, the batch included."""
        batch = self.trial.inputs[0][0].shape[:1]
        read = (*batch, *self.trial.tensors[0].shape[1:])
        return all(tuple(shape) == read for shape in self.trial.output_shapes)

    def _rest(self, choice):
        return np.setdiff1d(np.arange(self.width), choice)

    def _without(self, arrays, gone):
        """Arrays with some channels at zero."""
        return self._with(arrays, [ops.zeros_like(x) for x in arrays], gone)

    # Values ---------------------------------------------------------------------------------------

    def _pairs(self, passes, whole, part, choice):
        """What is left of the whole outputs, and what a narrower copy makes."""
        for (axis, sources), before, after in zip(passes.outputs, whole, part):
            stays = np.flatnonzero((sources < 0) | np.isin(sources, choice))
            yield before.take(stays, axis), after

    def check(self, passes, copy, choice, kind, training=False):
        """Raise `Unlike` where `passes` do not hold for a choice, on arrays of one of `KINDS`."""
        before, inputs = self.trial.outputs[kind], self.trial.inputs[kind]
        if passes.needs_zeros or training:
            if passes.needs_zeros:
                inputs = self._without(inputs, self._rest(choice))
            before = self.trial.run(inputs, self.trial.weights[kind], training=training)
        after = self._narrower(passes, copy, choice, kind, inputs, training)
        if any(alike(a, b) is False for a, b in self._pairs(passes, before, after, choice)):
            raise Unlike(
                "before and behind it gives other values: they depend on the other channels, or on "
                "how many there are"
            )

    def _narrower(self, passes, copy, choice, kind, inputs, training=False):
        keep = as_selected(choice, self.width)
        weights = narrowed(self.trial.weights[kind], passes.weights, keep)
        arrays = chosen(inputs, self.axes, choice)
        return self.trial.run(arrays, weights, copy, training)

    def _check_training(self, passes, copy, choice):
        """In training channels stay apart, too; random numbers are not the same for fewer."""
        try:
            self.check(passes, copy, choice, NORMAL, training=True)
        except Unlike:
            run = functools.partial(
                self.trial.run, weights=self.trial.weights[NORMAL], training=True
            )
            inputs = self.trial.inputs[NORMAL]
            first, again = run(inputs), run(inputs, seed=1)
            if all(alike(a, b) for a, b in zip(first, again)):
                raise Unlike("before and behind it gives other values in training") from None
            other = run(self._mixed(NORMAL, self._rest(choice)))
            pairs = zip(self._pairs(passes, first, first, choice), other, passes.outputs)
            for (before, _), after, (axis, sources) in pairs:
                stays = np.flatnonzero((sources < 0) | np.isin(sources, choice))
                if not passes.needs_zeros and alike(before, after.take(stays, axis)) is False:
                    raise Unlike("shows that channels are mixed in training") from None

    # What is zero, or constant --------------------------------------------------------------------

    def _with_states(self, passes, copy):
        gone = self._rest(self.choices[0])
        zeros = self._state(passes, [ops.zeros_like(x) for x in self.trial.inputs[NORMAL]], gone)
        constants = State.VARYING if passes.needs_zeros else self._state(passes, self._levels, gone)
        return dataclasses.replace(
            passes,
            zeros=zeros,
            constants=State.FIXED if constants is None else max(constants, State.CONSTANT),
            one_is_enough=len(self.axes) > 1 and self._one_is_enough(passes, gone),
            scales=self._scales(passes, copy) if passes.in_place else None,
        )

    @functools.cached_property
    def _levels(self):
        """Inputs with one number for each channel, the same at all positions."""
        levels = np.random.default_rng(9).uniform(0.5, 1.5, self.width)
        found = [ops.zeros_like(x) for x in self.trial.inputs[NORMAL]]
        for position, axis in self.axes.items():
            shape = [-1 if a == axis else 1 for a in range(len(found[position].shape))]
            found[position] += ops.cast(levels.reshape(shape), found[position].dtype)
        return found

    def _state(self, passes, values, gone):
        """The `State` of channels that hold `values`, whatever the others do."""
        found, seen = State.ZERO, []
        for seed in (60, 61):
            arrays = self._with(self.trial.redrawn("normal", seed), values, gone)
            seen.append(self.trial.run(arrays, self.trial.weights[NORMAL]))
        for (axis, sources), first, second in zip(passes.outputs, *seen):
            here = np.flatnonzero(np.isin(sources, gone))
            first, second = first.take(here, axis), second.take(here, axis)
            if not (np.isfinite(first).all() and np.isfinite(second).all()):
                return None
            found = max(found, _state_of(first, second, axis))
        return found

    def _one_is_enough(self, passes, gone):
        """Whether each input alone makes a channel zero."""
        for position, axis in self.axes.items():
            arrays = self.trial.redrawn("normal", 62)
            array = np.array(ops.convert_to_numpy(arrays[position]))
            array[(slice(None),) * axis + (gone,)] = 0.0
            arrays[position] = ops.convert_to_tensor(array)
            outputs = self.trial.run(arrays, self.trial.weights[NORMAL])
            for (axis_out, sources), y in zip(passes.outputs, outputs):
                if y.take(np.flatnonzero(np.isin(sources, gone)), axis_out).any():
                    return False
        return True

    def _scales(self, passes, copy):
        """Which weights take up a factor for each channel; `None` where none do."""
        choice = self.choices[0]
        mask = np.isin(np.arange(self.width), choice)
        factors = np.random.default_rng(3).uniform(-2.0, -0.5, self.width)
        scaled = Scaled(mask, factors)
        arrays = chosen(self.trial.inputs[NORMAL], self.axes, choice)
        whole = self.trial.outputs[NORMAL][0]
        for taking in ways_to_take(passes.weights):
            weights = narrowed(self.trial.weights[NORMAL], passes.weights, scaled, taking)
            found = self.trial.run(arrays, weights, copy)[0]
            if alike(scaled.take(whole, passes.outputs[0][0]).astype(found.dtype), found):
                return taking
        return None


def _state_of(first, second, axis):
    """The `State` of channels along `axis`, seen twice while all others were drawn anew."""
    if not (first.any() or second.any()):
        return State.ZERO
    if not alike(first, second):
        return State.VARYING
    rows = np.moveaxis(first, axis, -1)
    if not all(alike(rows[0], row) for row in rows):
        return State.VARYING
    positions = rows.reshape(-1, rows.shape[-1])
    same = alike(np.broadcast_to(positions[0], positions.shape), positions)
    return State.CONSTANT if same else State.FIXED
