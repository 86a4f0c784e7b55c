"""Operations that put blocks of positions into channels, or back: as a reshape would."""

import numpy as np
from keras import ops

from resrep_keras.common.eager import eagerly
from resrep_keras.graph.flow import flow
from resrep_keras.keras_adapter import operation_classes


def _axis(operation, call):
    first = operation.data_format == "channels_first"
    return 1 if first else len(call.input.shape) - 1


def _numbered(function, axis, channels, sizes):
    """What becomes of one block of positions whose entries are the numbers of their channels.

    Backends have them in orders of their own. Returns: An array with the channels last.
    """
    x = np.broadcast_to(np.arange(channels, dtype="float32"), (1, *sizes, channels))
    with eagerly():  # also where a traced step asks
        made = function(ops.convert_to_tensor(np.moveaxis(x, -1, axis)))
        return np.moveaxis(ops.convert_to_numpy(made), axis, -1).astype(int)


def _one_block(call, axis, function, sizes):
    """Each channel of a block at each position of it becomes one."""
    whole = call.vector(call.input, axis)
    sources = _numbered(function, axis, whole.shape[axis], sizes).ravel()
    return whole.map(lambda a: a.take(sources, axis), call.output_shape)


def _depth_to_space_flow(operation, call):
    """What becomes one channel at several positions goes together."""
    axis, size = _axis(operation, call), operation.block_size
    whole = call.vector(call.input, axis)
    sources = _numbered(operation.call, axis, whole.shape[axis], (1, 1))[0]
    spread = np.moveaxis(whole.labels, axis, -1).ravel()[sources]
    state = np.moveaxis(whole.state, axis, -1).ravel()[sources]
    call.couple(spread, spread[:1, :1])
    shape = [-1 if other == axis else 1 for other in range(len(whole.shape))]
    out = whole.replace(
        labels=spread[0, 0].reshape(shape),
        state=state.reshape(size**2, -1).max(0).reshape(shape),
        shape=call.output_shape,
    )
    return call.uneven(out)


def _space_to_depth_flow(operation, call):
    sizes = [operation.block_size] * 2
    return _one_block(call, _axis(operation, call), operation.call, sizes)


def _extract_patches_flow(operation, call):
    def function(x):
        return ops.image.extract_patches(x, operation.size, data_format=operation.data_format)

    out = _one_block(call, _axis(operation, call), function, operation.size)
    return out if operation.padding == "valid" else call.uneven(out)


for kinds, rule in (
    (operation_classes("depth_to_space"), _depth_to_space_flow),
    (operation_classes("space_to_depth"), _space_to_depth_flow),
    (operation_classes("image.extract_patches"), _extract_patches_flow),
):
    for kind in kinds:
        flow.register(kind)(rule)
