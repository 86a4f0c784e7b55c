"""What several tensors make together: element by element, or one behind the other."""

import numpy as np

from resrep_keras.graph.labels import Flow, State
from resrep_keras.graph.pins import PinKind
from resrep_keras.keras_adapter import operation_classes


def merged(call, flows):
    """The flow behind an element-wise sum and its like: all must be zero.

    What one entry gives to all channels leaves them with values that depend on the input.
    """
    if any(flow.across is not None for flow in flows):
        return _axis_by_axis(call, flows, merged)
    flows = _on_common_axes(call, _of_one_rank(flows))
    wide = _without_broadcast(call, flows, "a term that is broadcast over channels")
    aligned, why, kind = _align(call, wide)
    if aligned is None:
        return call.pin_all(f"an element-wise operation {why}", kind)
    first, *others = aligned
    state = first.state
    for other in others:
        call.couple(first, other)
        state = np.maximum(state, other.state)
    if len(wide) < len(flows) and call.allows_inexact and _is_centred(call, first):
        call.pin_inexact(first, "a mean over channels that is taken from each of them")
        state = np.zeros_like(state)
    elif len(wide) < len(flows):
        state = np.full_like(state, State.VARYING)
    return first.replace(shape=call.output_shape, state=state, origins=_origins(flows))


MEANS = operation_classes("mean", "moments")


def _is_centred(call, stream, far=4):
    """Whether a tensor of a sum is made of the mean over the channels of another one."""
    own = np.unique(stream.labels).tolist()
    makers = [
        maker_behind(call.maker(position), MEANS, far) for position in range(len(call.inputs))
    ]
    read = [labels for maker in makers if maker is not None for labels in maker.gathered]
    return any(np.unique(labels).tolist() == own for labels in read)


def maker_behind(call, kinds, far):
    """The first of a call and those of single tensors before it of some kinds, or `None`."""
    while call is not None and not isinstance(call.operation, kinds):
        far -= 1
        call = call.maker(0) if far and len(call.inputs) == 1 else None
    return call


def multiplied(call, flows):
    """The flow behind an element-wise product: one zero factor is enough."""
    if any(flow.across is not None for flow in flows):
        return _axis_by_axis(call, flows, multiplied)
    flows = _on_common_axes(call, _of_one_rank(flows))
    wide = _without_broadcast(call, flows, "a factor that is broadcast over channels")
    aligned, why, kind = _align(call, wide)
    if aligned is None:
        return call.pin_all(f"a product {why}", kind)
    state = np.max([f.state for f in aligned], axis=0)
    if len(wide) < len(flows):
        state = np.full_like(state, State.VARYING)
    state = np.where(np.min([f.state for f in aligned], axis=0) == State.ZERO, 0, state)
    # The largest factor is the stream; what scales it follows.
    sizes = [np.prod([n or 1 for n in f.shape[1:]]) for f in wide]
    stream = int(np.argmax(sizes))
    for position, other in enumerate(aligned):
        if position != stream:
            call.follow(aligned[stream], other)
            call.couple(aligned[stream], other)
    return aligned[stream].replace(
        shape=call.output_shape, state=state.astype(np.int8), origins=_origins(flows)
    )


def in_a_row(call, flows, axis):
    """The flow behind a concatenation along `axis`."""
    flows = _on_common_axes(call, flows)
    wide = {other for flow in flows for other in flow.wide_axes}
    if wide and axis not in wide:
        return _one_below_the_other(call, flows)
    if any(flow.shape[axis] is None for flow in flows):
        return call.pin_all("a concatenation of unknown sizes", PinKind.UNKNOWN_SIZE)
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
        call.output_shape,
        np.concatenate([state for _, state in parts], axis),
        _origins(flows),
    )
    return whole.map(lambda a: a, call.output_shape)


def _axis_by_axis(call, flows, combined):
    """Channels along several axes at once: what one tensor has along an axis all must have."""
    apart = all(len(part.wide_axes) < 2 for flow in flows for part in flow.parts)
    if not apart or len({tuple(flow.shape) for flow in flows}) > 1:
        return combined(call, [call.plain(flow) for flow in flows])
    axes = sorted({axis for flow in flows for part in flow.parts for axis in part.wide_axes})
    found = []
    for axis in axes:
        parts = [part for flow in flows for part in flow.parts if axis in part.wide_axes]
        if len(parts) == len(flows):
            found.append(combined(call, parts))
            continue
        for part in parts:
            text = "an element-wise operation with a tensor that has no channels along this axis"
            call.pin(part, text, PinKind.AXES)
    if not found:
        return call.hand_on()
    return found[-1].crossed_by(found[:-1])


def _one_below_the_other(call, flows):
    """Positions of several tensors: channels become equal, and their constants may differ."""
    out = merged(call, flows)
    return out if isinstance(out, list) else call.uneven(out)


def _origins(flows):
    return frozenset().union(*(flow.origins for flow in flows))


def _of_one_rank(flows):
    """Flows of the same rank, with axes of 1 in front as in any broadcast."""
    rank = max(len(flow.shape) for flow in flows)
    return [
        flow.map(lambda a: a.reshape((1,) * (rank - a.ndim) + a.shape), _padded(flow.shape, rank))
        if len(flow.shape) < rank
        else flow
        for flow in flows
    ]


def _padded(shape, rank):
    return (1,) * (rank - len(shape)) + tuple(shape)


def _on_common_axes(call, flows):
    """Flows whose channels lie along the same axes, where they have any in common."""
    wide = [set(flow.wide_axes) for flow in flows if flow.wide_axes]
    if len({frozenset(axes) for axes in wide}) < 2:
        return flows
    common = set.intersection(*wide)
    if not common:
        return flows
    longest = max(common, key=lambda axis: (call.output_shape[axis] or 0, axis))
    return [call.settle(flow, longest) for flow in flows]


def _without_broadcast(call, flows, text):
    """Those flows that have channels where others have; the rest is kept, with this reason."""
    for flow in flows:
        if _broadcasts(call, flow, flows) and not call.is_pinned(flow):
            call.pin(flow, text, PinKind.BROADCAST)
    return [flow for flow in flows if not _broadcasts(call, flow, flows)]


def _broadcasts(call, flow, flows):
    """Whether a flow has one entry along an axis along which others have channels."""
    axes = {axis for f in flows for axis in f.wide_axes}
    return any(flow.shape[axis] == 1 and call.output_shape[axis] != 1 for axis in axes)


def _align(call, flows):
    """Flows with equally shaped labels; or `None`, why channels do not match, a `PinKind`."""
    if not flows:
        return None, "that broadcasts over channels", PinKind.BROADCAST
    flows = _on_common_axes(call, flows)
    wide = {tuple(flow.wide_axes) for flow in flows if flow.wide_axes}
    # A single channel that lies along other axes meets all channels of the other tensors.
    single = wide and any(not flow.wide_axes and not call.is_pinned(flow) for flow in flows)
    if len(wide) > 1 or single:
        return None, "of tensors whose channels lie along different axes", PinKind.AXES
    shape = np.max([flow.labels.shape for flow in flows], axis=0)
    aligned = [
        f.replace(labels=np.broadcast_to(f.labels, shape), state=np.broadcast_to(f.state, shape))
        for f in flows
    ]
    return aligned, None, None
