"""Operations that take entries, put them elsewhere or repeat them, along channels or not."""

import numpy as np

from resrep_keras.costs.rows import rows
from resrep_keras.graph.flow import changes_settings, flow, register_all
from resrep_keras.graph.labels import State
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.graph.together import maker_behind
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.rules.arrays import as_array
from resrep_keras.rules.ones import LIKE
from resrep_keras.surgery.narrow import narrow, take

# --- slices and numbers --------------------------------------------------------------------------

GET_ITEM, STACK = operation_class("get_item"), operation_class("stack")


def _entries(key, rank):
    """The key of an indexing, an entry for each axis and each new one; `None` if not simple."""
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    simple = (slice, int, np.integer, type(None), type(Ellipsis))
    if any(not isinstance(entry, simple) or is_symbolic(entry) for entry in key):
        return None
    missing = rank - sum(entry is not None and entry is not Ellipsis for entry in key)
    where = next((at for at, entry in enumerate(key) if entry is Ellipsis), len(key))
    key[where : where + 1] = [slice(None)] * missing
    return key


def _by_axis(key):
    """``(position in the key, axis)`` of the entries that are not for new axes."""
    return [(at, axis) for axis, at in enumerate(i for i, k in enumerate(key) if k is not None)]


@flow.register(GET_ITEM)
def _get_item_flow(operation, call):
    flow_in = call.input
    key = _entries(call.argument("key", 1), len(flow_in.shape))
    maker = call.maker(0)
    if key is not None and maker is not None and isinstance(maker.operation, LIKE):
        wide = [key[at] for at, axis in _by_axis(key) if axis in flow_in.wide_axes]
        if not any(isinstance(entry, slice) for entry in wide):
            call.memo["of ones"] = True
            return call.neutral(call.output_shape)  # one of ones is any
    only_new = key is not None and all(entry in (None, slice(None)) for entry in key)
    one_part = key is not None and type(key[0]) is int and _in_parts(call)
    if key is None or not (only_new or one_part or key[0] == slice(None)):
        return call.pin_all("an indexing that is not made of slices and numbers")
    places = _by_axis(key)
    for at, axis in places:
        if axis not in flow_in.wide_axes:
            continue
        flow_in = flow_in.expanded([axis])
        if not isinstance(key[at], slice):
            flow_in = _one_of(call, flow_in, axis, int(key[at]))
        elif key[at].step not in (None, 1, -1):
            flow_in = _in_steps(call, flow_in, axis, key[at])
        if flow_in is None:
            return call.pin_all("a slice of channels with a step, of which some are left over")
    here = list(key)
    for at, axis in places:
        if flow_in.labels.shape[axis] == 1:
            here[at] = slice(None) if isinstance(key[at], slice) else 0
    return flow_in.map(lambda a: a[tuple(here)], call.output_shape)


def _in_parts(call, far=4):
    """Whether the first axis is that of a stack, in front of the examples."""
    stack, rank = maker_behind(call.maker(0), STACK, far), len(call.input.shape)
    return stack is not None and len(stack.output_shape) == rank and not stack.operation.axis % rank


def _one_of(call, flow_in, axis, number):
    """One entry of an axis: that channel stays, or, of parts that are alike, all lose the same."""
    if len(flow_in.wide_axes) > 1:
        joined = flow_in.map(lambda a: a.take([0], axis), flow_in.shape)
        call.couple(flow_in, joined)
        return joined
    one = flow_in.map(lambda a: a.take([number], axis), flow_in.shape)
    call.pin(one, "an indexing of one channel")
    return one


def _in_steps(call, flow_in, axis, entry):
    """Every other channel, say: those of one step go together, so that a step stays a step."""
    step = abs(entry.step)
    begin, end, _ = entry.indices(flow_in.shape[axis])
    low, high = (begin, end) if entry.step > 0 else (end + 1, begin + 1)
    if flow_in.shape[axis] % step or low >= step or high <= flow_in.shape[axis] - step:
        return None
    labels = np.moveaxis(flow_in.labels, axis, 0)
    rows = labels.reshape(-1, step, *labels.shape[1:])
    call.couple(rows, rows[:, :1])
    return flow_in


@rows.register(GET_ITEM)
def _get_item_rows(operation, call, given):
    """One of as many ones as a batch has entries is that of no example."""
    key = call.argument("key", 1)
    first = key[0] if isinstance(key, (list, tuple)) and key else key
    if is_symbolic(first) or first is None or first is Ellipsis or isinstance(first, slice):
        return given
    return 0 if "of ones" in call.memo else None


@narrow.register(GET_ITEM)
def _get_item_narrow(operation, part):
    """The kept channels of a slice are a slice of the kept channels."""
    flow_in = part.call.input
    axis = flow_in.channel_axis
    if not flow_in.wide_axes or axis is None:
        return {}, []
    key = _entries(part.call.argument("key", 1), len(flow_in.shape))
    at = next(at for at, other in _by_axis(key) if other == axis)
    if not isinstance(key[at], slice):
        key[at] = int(part.keep_in[0][: int(key[at]) % flow_in.shape[axis]].sum())
    elif key[at].step in (None, 1):
        begin, end, _ = key[at].indices(flow_in.shape[axis])
        before = int(part.keep_in[0][:begin].sum())
        key[at] = slice(before, before + int(part.keep_in[0][begin:end].sum()))
    return {"key": tuple(key)}, []


# --- parts ---------------------------------------------------------------------------------------

SPLIT = operation_class("split")


@flow.register(SPLIT)
@changes_settings
def _split_flow(operation, call):
    axis = operation.axis % len(call.input.shape)
    if call.input.labels.shape[axis] == 1:
        return [call.input.replace(shape=shape) for shape in call.output_shapes]
    call.axis_in = axis
    whole = call.input.expanded([axis])
    ends = np.cumsum([shape[axis] for shape in call.output_shapes])
    starts = [0, *ends[:-1]]
    return [
        whole.map(lambda a, s=s, e=e: a.take(range(s, e), axis), shape)
        for s, e, shape in zip(starts, ends, call.output_shapes)
    ]


@narrow.register(SPLIT)
def _split_narrow(operation, part):
    axis = operation.axis % len(part.call.input.shape)
    if part.call.input.wide_axes != [axis]:  # along another axis than the channels'
        return {}, []
    return {"indices_or_sections": [int(end) for end in np.cumsum(part.widths)[:-1]]}, []


@flow.register(operation_class("unstack"))
def _unstack_flow(operation, call):
    axis = operation.axis % len(call.input.shape)
    flow_in = call.input
    if flow_in.wide_axes == [axis]:
        return call.pin_all("an unstacking of channels")
    if axis in flow_in.wide_axes:
        flow_in = _one_of(call, flow_in, axis, 0)
    return [flow_in.map(lambda a: a.take(0, axis), shape) for shape in call.output_shapes]


TAKE = operation_class("take")


@flow.register(TAKE)
def _take_flow(operation, call):
    indices, of_table = call.argument("indices", 1), call.flows_of(call.argument("x", 0))
    rank = len(call.input.shape)
    axis = 0 if operation.axis is None else operation.axis % rank
    wide = [at for each in call.inputs[len(of_table) :] for at in each.wide_axes]
    along = axis in call.input.wide_axes and (axis == 0 or is_symbolic(indices))
    if not of_table or wide or along or (operation.axis is None and rank > 1):
        return call.pin_all("a choice along the examples, or of entries that depend on the input")
    if is_symbolic(indices):  # a table is looked up: all entries have the same channels
        indices = np.zeros((1,) * len(indices.shape), int)
    indices = as_array(indices)
    flow_in = call.input
    if axis in flow_in.wide_axes and indices.ndim == 0:
        flow_in = _one_of(call, flow_in, axis, int(indices))
    if axis in flow_in.wide_axes and indices.ndim != 1:
        flow_in = call.settle(flow_in, *({*range(1, rank)} - {axis}))
        if axis in flow_in.wide_axes:
            return call.pin_all("a choice of channels by a table")
    if axis in flow_in.wide_axes:
        taken = flow_in.map(lambda a: a.take(indices, axis), call.output_shape)
        call.need_one(taken)
        return taken
    axes = tuple(range(axis, axis + indices.ndim))
    return flow_in.map(lambda a: np.expand_dims(a.take(0, axis), axes), call.output_shape)


@narrow.register(TAKE)
def _take_narrow(operation, part):
    """Where the entries that are left are now."""
    flow_in = part.call.inputs[0]
    axis = operation.axis and operation.axis % len(flow_in.shape)
    if flow_in.wide_axes != [axis]:
        return {}, []
    keep, indices = part.keep_in[0], as_array(part.call.argument("indices", 1))
    left = indices if indices.ndim == 0 else indices[keep[indices]]
    return {"indices": (np.cumsum(keep) - 1)[left].astype(indices.dtype)}, []


# --- the same entries, elsewhere -----------------------------------------------------------------


@flow.register(operation_class("flip"))
def _flip_flow(operation, call):
    rank = len(call.input.shape)
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis) % rank
    if 0 in axes:
        return call.pin_all("a flip of the examples")
    return call.input.map(lambda a: np.flip(a, tuple(axes)), call.output_shape)


ROLL = operation_class("roll")


def _shifts(operation, rank):
    """``{axis: by how much}``."""
    axes = (np.atleast_1d(operation.axis) % rank).tolist()
    shifts = np.broadcast_to(operation.shift, len(axes)).tolist()
    return {axis: sum(s for a, s in zip(axes, shifts) if a == axis) for axis in axes}


@flow.register(ROLL)
@changes_settings
def _roll_flow(operation, call):
    if operation.axis is None or 0 in _shifts(operation, len(call.input.shape)):
        return call.pin_all("a roll of the examples")
    shifts = _shifts(operation, len(call.input.shape))
    flow_in = call.input.expanded(set(shifts) & set(call.input.wide_axes))
    return flow_in.map(
        lambda a: np.roll(a, tuple(shifts.values()), tuple(shifts)), call.output_shape
    )


@narrow.register(ROLL)
def _roll_narrow(operation, part):
    """As many channels come to the front as are left of those that did."""
    flow_in = part.call.input
    shifts = _shifts(operation, len(flow_in.shape))
    axis = flow_in.channel_axis
    if not flow_in.wide_axes or axis not in shifts:
        return {}, []
    keep = part.keep_in[0]
    shifts[axis] = int(keep[len(keep) - shifts[axis] % len(keep) :].sum())
    return {"shift": tuple(shifts.values()), "axis": tuple(shifts)}, []


TILE, REPEAT = operation_class("tile"), operation_class("repeat")


@flow.register(TILE)
def _tile_flow(operation, call):
    rank = len(call.input.shape)
    repeats = np.atleast_1d(operation.repeats).tolist()
    repeats = [1] * (rank - len(repeats)) + repeats
    if len(repeats) > rank or repeats[0] != 1:
        return call.pin_all("a tile along the examples")
    wide = call.input.wide_axes
    times = [each if axis in wide else 1 for axis, each in enumerate(repeats)]
    return call.input.map(lambda a: np.tile(a, times), call.output_shape)


@flow.register(REPEAT)
@changes_settings
def _repeat_flow(operation, call):
    rank = len(call.input.shape)
    axis = 0 if operation.axis is None else operation.axis % rank
    if axis == 0:
        return call.pin_all("a repetition along the examples")
    if axis not in call.input.wide_axes:
        return call.input.replace(shape=call.output_shape)
    return call.input.map(lambda a: np.repeat(a, operation.repeats, axis), call.output_shape)


@narrow.register(REPEAT)
def _repeat_narrow(operation, part):
    flow_in = part.call.input
    axis = operation.axis and operation.axis % len(flow_in.shape)
    repeats = np.asarray(operation.repeats)
    if flow_in.wide_axes != [axis] or repeats.size == 1:
        return {}, []
    return {"repeats": take(repeats, 0, part.keep_in[0]).tolist()}, []


# --- several tensors -----------------------------------------------------------------------------


@flow.register(STACK)
def _stack_flow(operation, call):
    merged = call.merge(_each(call))
    if isinstance(merged, list):
        return merged
    axis = operation.axis % len(call.output_shape)
    stacked = merged.map(lambda a: np.expand_dims(a, axis), call.output_shape)
    return call.uneven(stacked)  # each has a constant of its own


@flow.register(operation_class("concatenate"))
def _concatenate_flow(operation, call):
    return call.concatenate(_each(call), operation.axis % len(call.output_shape))


def _each(call):
    """The flows of a list of tensors and arrays; nothing of an array can go."""
    given = call.args[0] if call.args else next(iter(call.kwargs.values()))
    return [
        call.flows_of(each)[0] if is_symbolic(each) else call.neutral(np.shape(as_array(each)))
        for each in given
    ]


# --- what has no channels ------------------------------------------------------------------------


@register_all(flow, *operation_classes("one_hot", "multi_hot"))
def _hot_flow(operation, call):
    """Numbers of classes come in, which no channel stands for."""
    call.pin(call.input, "numbers of classes")
    return call.neutral(call.output_shape)


@flow.register(operation_class("glu"))
def _glu_flow(operation, call):
    """The first half, each channel times a gate of the second: zero where the first is."""
    axis = operation.axis % len(call.input.shape)
    if axis not in call.input.wide_axes:
        out = call.input.replace(shape=call.output_shape)
        return out if (out.state == State.ZERO).all() else call.uneven(out)
    whole = call.vector(call.input, axis)
    size = call.output_shape[axis]
    halves = [
        whole.map(lambda a, s=s: a.take(range(s, s + size), axis), call.output_shape)
        for s in (0, size)
    ]
    call.couple(*halves)
    first, gate = halves
    state = np.where(first.state == State.ZERO, State.ZERO, np.maximum(first.state, gate.state))
    return first.replace(state=state.astype(np.int8))
