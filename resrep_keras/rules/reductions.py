"""What is summed up, averaged or compared over axes: positions, or the channels themselves."""

import math

import keras
import numpy as np

from resrep_keras.costs.rows import rows_seen
from resrep_keras.graph.flow import flow, register_all, takes_several_axes
from resrep_keras.graph.labels import State
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.rules.pooling import reduced
from resrep_keras.rules.signs import reads_not_negative
from resrep_keras.surgery.narrow import Correction, correction, narrow

MEAN, SUM, NORM = operation_classes("mean", "sum", "norm")
SUMS = (MEAN, SUM, *operation_classes("any", "count_nonzero", "nansum"))
LARGEST = operation_classes("max", "amax", "nanmax")
OTHERS = operation_classes(
    *"min amin prod var std median logsumexp all argmax argmin nanmean nanmin nanstd nanvar".split()
)
# What these make of zeros, or of how many positions there are.
NOT_ZERO = operation_classes("logsumexp", "all")
SPREADS = operation_classes("var", "std")
GROWING = operation_classes("sum", "prod", "norm", "logsumexp", "count_nonzero")


@register_all(flow, *SUMS, NORM, *LARGEST, *OTHERS)
def _reduction_flow(operation, call):
    """Of channels along several axes, those that are not reduced stay."""
    kind, rank = type(operation).__name__, len(call.input.shape)
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    axes = {int(axis) % rank for axis in axes}
    if call.input.across is not None:
        if _reduces_each(operation, call, axes):
            return _axis_by_axis(call, axes)
        call.inputs = (call.plain(call.input),)
    flow_in = call.settle(call.settle(call.input, *({*range(rank)} - axes)))
    if 0 in axes:
        return call.pin_all(f"{kind} over all examples together")
    if axes.isdisjoint(flow_in.wide_axes):
        return _over_positions(operation, call, flow_in, axes)
    if isinstance(operation, SPREADS):
        return _spread_over_channels(call, kind, flow_in)[0]
    if not _zeros_do_not_count(operation, call):
        return call.pin_all(f"{kind} over channels, which zeros change")
    if isinstance(operation, (MEAN, SUM)):
        call.sum_up(flow_in, axes, State.FIXED if _rows_are_examples(call) else State.CONSTANT)
    else:
        call.gather(flow_in)
    return call.neutral(call.output_shape)


def _rows_are_examples(call):
    """Whether no constants that differ between positions have become rows, as of windows."""
    todo, seen = [call], set()
    while todo:
        maker = todo.pop()
        for position, flow_in in enumerate(maker.inputs):
            before = maker.maker(position)
            if before is None or before.index in seen or not (flow_in.state > State.CONSTANT).any():
                continue
            seen.add(before.index)
            if not isinstance(before.operation, keras.Operation) or set(rows_seen(before, {})) != {
                1
            }:
                return False
            todo.append(before)
    return True


@register_all(takes_several_axes, *SUMS, NORM, *LARGEST)
def _reduction_crosses(operation):
    return True


def _reduces_each(operation, call, axes):
    """Whether of channels along several axes each lot is either reduced or passes."""
    parts = call.input.parts
    lost = [part for part in parts if not axes.isdisjoint(part.wide_axes)]
    apart = 0 not in axes and all(len(part.wide_axes) < 2 for part in parts)
    few = len(lost) < 2 or not isinstance(operation, MEAN)  # one correction is made
    return apart and few and (not lost or _zeros_do_not_count(operation, call))


def _axis_by_axis(call, axes):
    """Channels along some axes are summed up, where zeros do not count; the others pass."""
    found, lost = [], False
    for part in call.input.parts:
        if not axes.isdisjoint(part.wide_axes):
            (call.axis_in,) = part.wide_axes
            call.gather(part)
            lost = True
        else:
            found.append(part)
    keepdims = len(call.output_shape) == len(call.input.shape)
    for position, part in enumerate(found):
        if lost:  # as many constants are summed up as channels are left
            state = np.where(part.state > State.ZERO, State.VARYING, State.ZERO)
            part = part.replace(state=state.astype(np.int8))
        found[position] = reduced(call, part, sorted(axes), keepdims)
    return found[-1].crossed_by(found[:-1]) if found else call.neutral(call.output_shape)


def _spread_over_channels(call, kind, flow_in):
    """A variance runs over the channels that are left, as that of a LayerNormalization does."""
    call.need_one(flow_in)
    text = f"{kind} over channels, which zeros change; exact=False allows it"
    call.pin_inexact(flow_in, text)
    return [call.neutral(shape) for shape in call.output_shapes]


@flow.register(operation_class("moments"))
def _moments_flow(operation, call):
    """A mean and a variance."""
    rank = len(call.input.shape)
    axes = {int(axis) % rank for axis in np.atleast_1d(operation.axes)}
    flow_in = call.settle(call.settle(call.input, *({*range(rank)} - axes)))
    if 0 in axes:
        return call.pin_all("Moments over all examples together")
    if not axes.isdisjoint(flow_in.wide_axes):
        return _spread_over_channels(call, "Moments", flow_in)
    out = reduced(call, flow_in, sorted(axes), operation.keepdims)
    return [out, out]


def _over_positions(operation, call, flow_in, axes):
    if isinstance(operation, GROWING) and None in (flow_in.shape[axis] for axis in axes):
        unknown = np.where(flow_in.state > State.ZERO, State.VARYING, State.ZERO)
        flow_in = flow_in.replace(state=unknown.astype(np.int8))
    out = reduced(call, flow_in, sorted(axes), len(call.output_shape) == len(flow_in.shape))
    return call.constant(out) if isinstance(operation, NOT_ZERO) else out


def _zeros_do_not_count(operation, call):
    """Whether an operation over channels makes the same without some of them that are zero."""
    if isinstance(operation, LARGEST):
        return reads_not_negative(call)
    if isinstance(operation, NORM):
        return _counts_no_zeros(operation.ord)
    return isinstance(operation, SUMS)


def _counts_no_zeros(order):
    return order in (None, "fro", 1, 2, np.inf)


@register_all(narrow, MEAN, SUM)
def _sum_narrow(operation, part):
    return {}, []


@correction.register(SUM)
def _sum_correction(operation, part):
    """What removed channels held, all together."""
    return Correction(shift=part.constants)


@correction.register(MEAN)
def _mean_correction(operation, part):
    """The sum over the channels that are left is divided by as many as there were."""
    flow_in = part.call.input
    rank = len(flow_in.shape)
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    axes = {int(axis) % rank for axis in axes}
    if axes.isdisjoint(axis for each in flow_in.parts for axis in each.wide_axes):
        return Correction()
    shift = part.constants
    if shift is not None:
        shift = shift / math.prod(flow_in.shape[axis] for axis in axes)
    return Correction(float(part.keep_in[0].mean()), shift)


@flow.register(operation_class("normalize"))
def _normalize_flow(operation, call):
    if not _counts_no_zeros(operation.order):
        return call.pin_all(f"a normalisation of order {operation.order}, which zeros change")
    return call.require(call.input)


@flow.register(operation_class("cumsum"))
def _cumulative_flow(operation, call):
    rank = len(call.input.shape)
    if operation.axis is None or operation.axis % rank == 0:
        return call.pin_all("CumSum over all examples together")
    axis = operation.axis % rank
    flow_in = call.settle(call.input, *({*range(rank)} - {axis}))
    if axis in flow_in.wide_axes:
        return call.pin_all("CumSum over channels, in which those before count")
    return call.uneven(flow_in)
