"""What no rule is registered for is tried on arrays before its channels are pinned.

Channels are chosen before the layer, behind it, or both; see `passing` and `reading`. What holds
for random numbers, weights and choices is taken for the answer of `flow` and `narrow`; the
certificates of `prune` and `finalize` look at it once more. It is found out once for each call.
"""

import dataclasses

import numpy as np

from resrep_keras.graph.flow import flow, pin_without_rule
from resrep_keras.graph.labels import Flow
from resrep_keras.graph.pins import PinKind
from resrep_keras.keras_adapter import weights_of_operation
from resrep_keras.rules.multiplied import Way, find_cost
from resrep_keras.rules.passing import find_passing
from resrep_keras.rules.reading import (
    ReadsAndMakes,
    check_both,
    find_making,
    find_reading,
)
from resrep_keras.rules.relatives import find_among_relatives
from resrep_keras.surgery.alike import FEW, alike_key
from resrep_keras.surgery.trial import OtherOutputs, Trial, Unlike, Untried, tried_quietly


@dataclasses.dataclass(frozen=True)
class Nothing:
    """Trying has shown no way in which channels could go.

    Args:
        text: What was tried, or what it raised.
        kind: The `PinKind`.
    """

    text: str
    kind: PinKind = PinKind.NO_RULE

    whole = False

    def flows(self, call):
        """The answer of `flow`."""
        return pin_without_rule(call.operation, call, self.text, self.kind)


class HandedOn:
    """Channels go through, and all of them are kept for a reason in front of the layer."""

    whole = True

    def flows(self, call):
        """The answer of `flow`."""
        return call.hand_on()


@flow.register(object)
def _tried_flow(layer, call):
    if layer is not call.operation or not call.inputs:  # inside of a wrapper
        return pin_without_rule(layer, call)
    axes = tuple(tuple(flow_in.wide_axes) for flow_in in call.inputs)
    if not any(axes) and not weights_of_operation(layer):
        return call.hand_on()
    if axes not in call.memo:
        call.memo[axes] = _found(call, axes)
    found = call.memo[axes]
    call.found = None if isinstance(found, (Nothing, HandedOn)) else found
    call.is_unclear = not found.whole
    return found.flows(call)


def _found(call, axes):
    """What `_find` answers; that of another call of the model where both are alike."""
    key = alike_key(call)
    if (key, axes) not in call.known:
        with tried_quietly():
            found = _find(call, axes)
        if key is None:
            return found
        call.known[key, axes] = found
    return call.known[key, axes]


def _find(call, axes):
    """What trying a call shows, for channels along such axes of its inputs.

    At few positions first, which is enough for most layers: one that knows how many there are, or
    needs more, is tried with all of them.
    """
    if len(set(call.input_ids)) < len(call.input_ids):
        return Nothing("it is not tried where one tensor is given twice")
    sizes = [size or 1 for flow_in in call.inputs for size in flow_in.shape[1:-1]]
    for at_most in (FEW, None) if max(sizes, default=0) > FEW else (None,):
        found = _find_at(call, axes, at_most)
        if found.whole:
            break
    return found


def _find_at(call, axes, at_most):
    try:
        return _shown(call, axes, Trial(call, [axis for own in axes for axis in own], at_most))
    except Untried as untried:
        return Nothing(f"it could not be tried on arrays: {untried}", PinKind.UNTRIED)


def _shown(call, axes, trial):
    wide = {p: own for p, own in enumerate(axes[: len(trial.tensors)]) if own}
    if any(len(own) > 1 for own in wide.values()):
        return _find_everywhere(trial, wide)
    try:
        return _find_passing(call, trial, {p: own[0] for p, own in wide.items()})
    except Unlike as unlike:
        return _find_reading(call, trial, {p: own[0] for p, own in wide.items()}, unlike)


# --- channels that pass --------------------------------------------------------------------------


def _find_passing(call, trial, wide):
    if not wide:
        raise Unlike("of what it reads says nothing: all of its channels stay")
    together = _together(trial, wide)
    width = _width(trial, *next(iter(together.items())))

    def cost(found):
        return find_cost(call, trial, [Way(min(together), width, together, found.key)])

    return find_among_relatives(call, trial, together, width, cost)


def _width(trial, position, axis):
    return trial.inputs[0][position].shape[axis]


def _together(trial, wide):
    """The axes of inputs in which channels are chosen together: those of the same number.

    Raises:
        Unlike: There are inputs with channels of another number.
    """
    position, axis = next(iter(wide.items()))
    width, rank = _width(trial, position, axis), len(trial.inputs[0][position].shape)
    if any(_width(trial, *each) != width for each in wide.items()):
        raise Unlike("together: its inputs have different numbers of channels")
    others = {
        p: axis
        for p, x in enumerate(trial.inputs[0])
        if p not in wide and len(x.shape) == rank and x.shape[axis] == width
    }
    return dict(sorted({**wide, **others}.items()))


@dataclasses.dataclass(frozen=True)
class Everywhere:
    """Channels along several axes pass, each entry by itself.

    Args:
        passes: `Passes` for each axis.
    """

    passes: tuple

    whole = True  # nothing was found out that keeps channels
    what_weights_read = None
    rows_stay = False  # not known

    def narrow(self, layer, part):
        """The answer of `narrow`."""
        del layer, part
        return {}, []

    def terms(self, call):
        """The answer of `macs`; `None` where what the layer does inside tells."""
        del call

    def making(self, layer):
        """The answer of `producing_weights`."""
        del layer

    def flows(self, call):
        """The answer of `flow`."""
        states = np.max([each.states for each in self.passes], axis=0)
        state = states[call.input.state]
        changed = {call.index} if (state != call.input.state).any() else set()
        return Flow(
            call.input.labels, call.output_shape, state, call.input.origins | frozenset(changed)
        )


def _find_everywhere(trial, wide):
    """What holds for channels along several axes of one input."""
    if len(trial.tensors) > 1 or trial.weights[0]:
        text = "channels that lie along several axes are not tried where it has weights, or inputs"
        return Nothing(f"{text} beside them")
    found = []
    for axis in wide[0]:
        try:
            passes = find_passing(trial, {0: axis}, _width(trial, 0, axis))
        except Unlike as unlike:
            return Nothing(f"tried on arrays, choosing entries of axis {axis} {unlike}")
        alike = passes.in_place and len(passes.outputs) == 1 and passes.outputs[0][0] == axis
        if not alike or passes.zeros is None or passes.needs_zeros:
            return Nothing(f"tried on arrays, entries of axis {axis} pass in another way")
        found.append(passes)
    return Everywhere(tuple(found))


# --- channels that are read, or made -------------------------------------------------------------


def _find_reading(call, trial, wide, passing):
    """What holds for each input, and for the outputs, alone."""
    reads, kept = [], {}
    for position, axis in wide.items():
        try:
            reads.append(find_reading(trial, position, axis, _width(trial, position, axis)))
        except Unlike as unlike:
            kept[position] = f"tried on arrays, choosing channels {unlike}"
    makes, kept_outputs = _find_making(trial)
    if not reads and makes is None:
        told = f"tried on arrays, choosing channels {passing}"
        if not wide:
            return _found_of_kept(trial, kept_outputs)
        if isinstance(passing, OtherOutputs):
            told = next(iter(kept.values()), kept_outputs)
        return Nothing(told)
    found = ReadsAndMakes(tuple(reads), makes, kept, kept_outputs)
    try:
        check_both(trial, found.reads, makes)
        ways = [Way(r.position, r.width, {r.position: r.axis}, r.key) for r in reads]
        if makes is not None:
            ways.append(Way("out", makes.width, {}, makes.key))
        return dataclasses.replace(found, cost=find_cost(call, trial, ways))
    except Unlike as unlike:
        return Nothing(f"tried on arrays, choosing channels {unlike}")


def _found_of_kept(trial, kept_outputs):
    """What holds where all channels that a layer reads are kept: do they go through?"""
    axis = len(trial.inputs[0][0].shape) - 1
    if axis:
        try:
            find_passing(trial, {0: axis}, _width(trial, 0, axis))
            return HandedOn()
        except OtherOutputs:  # it makes others
            pass
        except Unlike as unlike:
            return Nothing(f"tried on arrays, choosing channels {unlike}")
    return Nothing(kept_outputs)


def _find_making(trial):
    """`Makes` and `None`, or `None` and why the channels stay that a layer makes."""
    if not trial.weights[0]:
        return None, None
    try:
        return find_making(trial), None
    except Unlike as unlike:
        return None, f"tried on arrays, choosing channels {unlike}"
