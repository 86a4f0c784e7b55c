"""Operations that put blocks of positions into channels, or back: as a reshape would."""

import math

import numpy as np

from resrep_keras.graph.flow import flow
from resrep_keras.keras_adapter import operation_classes


def _axis(operation, call):
    first = operation.data_format == "channels_first"
    return 1 if first else len(call.input.shape) - 1


def _tiled(call, axis, times):
    """Each position of a block has all channels in a row."""
    whole = call.vector(call.input, axis)
    repeats = [times if other == axis else 1 for other in range(len(whole.shape))]
    return whole.map(lambda a: np.tile(a, repeats), call.output_shape)


def _depth_to_space_flow(operation, call):
    """What becomes one channel at several positions goes together."""
    axis = _axis(operation, call)
    whole = call.vector(call.input, axis)
    call.tie(whole, operation.block_size**2)
    size = call.output_shape[axis]
    out = whole.map(lambda a: a.take(range(size), axis), call.output_shape)
    others = np.moveaxis(whole.state, axis, 0).reshape(-1, size)
    state = np.moveaxis(out.state, axis, -1)
    state = np.moveaxis(np.broadcast_to(others.max(0), state.shape), -1, axis)
    return call.uneven(out.replace(state=state))


def _space_to_depth_flow(operation, call):
    return _tiled(call, _axis(operation, call), operation.block_size**2)


def _extract_patches_flow(operation, call):
    out = _tiled(call, _axis(operation, call), math.prod(operation.size))
    return out if operation.padding == "valid" else call.uneven(out)


for kinds, rule in (
    (operation_classes("depth_to_space"), _depth_to_space_flow),
    (operation_classes("space_to_depth"), _space_to_depth_flow),
    (operation_classes("image.extract_patches"), _extract_patches_flow),
):
    for kind in kinds:
        flow.register(kind)(rule)
