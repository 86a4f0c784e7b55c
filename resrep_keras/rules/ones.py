"""What is made of the shape of a tensor alone, and parts of it: nothing depends on its channels."""

import functools

import keras
import numpy as np

from resrep_keras.costs.rows import rows
from resrep_keras.graph.flow import apply_function, changes_settings, flow, register_all
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.surgery.narrow import narrow

LIKE = operation_classes("ones_like", "zeros_like")


@register_all(flow, *LIKE)
def _like_flow(operation, call):
    """As many as the tensor has channels, where it has any."""
    if call.input.wide_axes:
        return apply_function(call, call.input, operation.call, call.output_shape)
    return call.neutral(call.output_shape)


SLICE = operation_class("slice")


@rows.register(SLICE)
def _slice_rows(operation, call, given):
    """So many entries of a batch of any size are those of no example."""
    return 0 if call.tensors[0][0].shape[0] is None else given


@flow.register(SLICE)
@changes_settings
def _slice_flow(operation, call):
    """The kept channels of a slice are a slice of those kept; a single one of ones is any."""
    flow_in, starts = call.input, call.argument("start_indices", 1)
    wide = flow_in.wide_axes
    maker = call.maker(0)
    if maker is not None and isinstance(maker.operation, LIKE):
        if all(operation.shape[axis] == 1 for axis in wide):
            return call.neutral(call.output_shape)
    if wide and any(map(is_symbolic, keras.tree.flatten(starts))):
        return call.pin_all("a slice that begins where the input says")
    flow_in = flow_in.expanded(wide)
    for axis in wide:
        begin = int(starts[axis])
        taken = range(begin, begin + call.output_shape[axis])
        flow_in = flow_in.map(functools.partial(np.take, indices=taken, axis=axis), flow_in.shape)
    return flow_in.replace(shape=call.output_shape)


@narrow.register(SLICE)
def _slice_narrow(operation, part):
    flow_in = part.call.input
    axis = flow_in.channel_axis
    if not flow_in.wide_axes or axis is None or part.keep_in[0].all():
        return {}, []
    starts, sizes = list(part.call.argument("start_indices", 1)), list(operation.shape)
    keep, begin = part.keep_in[0], int(starts[axis])
    starts[axis] = int(keep[:begin].sum())
    sizes[axis] = int(keep[begin : begin + part.call.output_shape[axis]].sum())
    return {"start_indices": tuple(starts), "shape": tuple(sizes)}, []
