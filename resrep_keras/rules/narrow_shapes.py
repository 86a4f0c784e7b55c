"""Settings that hold numbers of channels: shapes, splits and slices."""

import numpy as np
from keras import layers, ops

from resrep_keras.rules.operations import slices
from resrep_keras.rules.shapes import operation_kind
from resrep_keras.surgery.narrow import narrow


@narrow.register
def _reshape(layer: layers.Reshape, part):
    old = layer.target_shape
    return {"target_shape": _sizes(old, part.output_shape[1:])}, []


def _sizes(old, new):
    """New sizes, but where the old ones were left open."""
    return tuple(-1 if size == -1 else fresh for size, fresh in zip(old, new))


@narrow.register(operation_kind(lambda x: ops.reshape(x, (-1, 16))))
def _reshape_operation(operation, part):
    return {"newshape": _sizes(operation.newshape, part.output_shape)}, []


@narrow.register(operation_kind(lambda x: ops.split(x, 2, axis=1)))
def _split(operation, part):
    if part.call.axis_in is None:  # along another axis than the channels'
        return {}, []
    return {"indices_or_sections": [int(end) for end in np.cumsum(part.widths)[:-1]]}, []


@narrow.register
def _dropout(layer: layers.Dropout, part):
    """A noise shape may hold the number of channels."""
    axis = part.call.input.channel_axis
    shape = layer.noise_shape
    if shape is None or shape[axis] in (None, 1):
        return {}, []
    return {"noise_shape": (*shape[:axis], int(part.keep_out.sum()), *shape[axis + 1 :])}, []


@narrow.register(operation_kind(lambda x: x[:, :2]))
def _get_item(operation, part):
    """The kept channels of a slice are a slice of the kept channels."""
    shape, axis = part.call.input.shape, part.call.input.channel_axis
    key = slices(part.call.argument("key", 1), len(shape))
    begin, end, _ = key[axis].indices(shape[axis])
    before = int(part.keep_in[0][:begin].sum())
    key[axis] = slice(before, before + int(part.keep_in[0][begin:end].sum()))
    return {"key": tuple(key)}, []
