"""Raw operations of `keras.ops`: they change shapes, take parts, multiply, work by element."""

import math

import keras
import numpy as np

from resrep_keras.costs.rows import rows
from resrep_keras.graph.blocks import is_sum
from resrep_keras.graph.flow import apply_function, flow, register_all
from resrep_keras.graph.recording import Probe
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.rules.elementwise import softmax_flow
from resrep_keras.rules.merging import adds_up, contract
from resrep_keras.rules.pooling import reduced
from resrep_keras.rules.shapes import reshape_flow, sizes_left
from resrep_keras.surgery.narrow import narrow

# --- shapes ------------------------------------------------------------------------------------

RESHAPE = operation_class("reshape")
flow.register(RESHAPE)(reshape_flow)


@rows.register(RESHAPE)
def _reshape_rows(operation, call, given):
    """Entries of the other axes can become rows: of windows of an image, say."""
    before, after = (
        [size for size in x.shape[1:] if size is not None]
        for x in (call.tensors[0][0], *call.tensors[1])
    )
    unknown = (
        sum(size is None for size in x.shape[1:]) for x in (call.tensors[0][0], *call.tensors[1])
    )
    if len(set(unknown)) > 1 or given * math.prod(before) % math.prod(after):
        return None
    return given * math.prod(before) // math.prod(after)


@rows.register(Probe)
def _constant_rows(operation, call, given):
    """What a call makes of shapes alone, such as positions, belongs to no example."""
    return 0


@narrow.register(RESHAPE)
def _reshape_narrow(operation, part):
    return {"newshape": sizes_left(operation.newshape, part.output_shape)}, []


@flow.register(operation_class("transpose"))
def _transpose_flow(operation, call):
    return call.input.map(lambda a: np.transpose(a, operation.axes), call.output_shape)


@flow.register(operation_class("swapaxes"))
def _swapaxes_flow(operation, call):
    axes = operation.axis1, operation.axis2
    return call.input.map(lambda a: np.swapaxes(a, *axes), call.output_shape)


@flow.register(operation_class("moveaxis"))
def _moveaxis_flow(operation, call):
    return call.input.map(
        lambda a: np.moveaxis(a, operation.source, operation.destination), call.output_shape
    )


@flow.register(operation_class("expand_dims"))
def _expand_dims_flow(operation, call):
    return call.input.map(lambda a: np.expand_dims(a, operation.axis), call.output_shape)


@flow.register(operation_class("squeeze"))
def _squeeze_flow(operation, call):
    axes = operation.axis
    if axes is None:
        axes = [a for a, size in enumerate(call.input.shape) if size == 1]
    axes = tuple(a % len(call.input.shape) for a in np.atleast_1d(axes).tolist())
    return call.input.map(lambda a: a.squeeze(axes), call.output_shape)


@register_all(flow, *map(operation_class, ("mean", "sum", "max", "min")))
def _reduction_flow(operation, call):
    rank = len(call.input.shape)
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    axes = tuple(axis % rank for axis in axes)
    if 0 in axes or any(call.input.labels.shape[axis] > 1 for axis in axes):
        return call.pin_all(f"{type(operation).__name__} over channels")
    return reduced(call, call.input, axes, operation.keepdims)


@flow.register(operation_class("pad"))
def _pad_flow(operation, call):
    values = call.argument("constant_values", 1)
    padded = [axis for axis, pair in enumerate(operation.pad_width) if any(pair)]
    if any(call.input.labels.shape[axis] > 1 for axis in padded):
        return call.pin_all("a padding of the channel axis")
    if operation.mode == "constant":
        if values is not None and np.any(values):
            return call.pin_all("a padding with other values than zero")
        return call.uneven(call.input)
    return call.input.replace(shape=call.output_shape)


@register_all(flow, *map(operation_class, ("average_pool", "max_pool", "image.resize")))
def _resized_flow(operation, call):
    return call.input.replace(shape=call.output_shape)


# --- parts -------------------------------------------------------------------------------------


def _slices(key, rank):
    """The key of an indexing, one entry for each axis; `None` where it is not that simple."""
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(not (k is Ellipsis or isinstance(k, (slice, int, np.integer))) for k in key):
        return None
    if Ellipsis in key:
        position = key.index(Ellipsis)
        key[position : position + 1] = [slice(None)] * (rank - len(key) + 1)
    return key + [slice(None)] * (rank - len(key))


GET_ITEM = operation_class("get_item")
SPLIT = operation_class("split")


@flow.register(GET_ITEM)
def _get_item_flow(operation, call):
    key = _slices(call.argument("key", 1), len(call.input.shape))
    axis = call.input.channel_axis
    if key is None or key[0] != slice(None) or axis is None:
        return call.pin_all("an indexing that is not made of slices and numbers")
    if isinstance(key[axis], slice):
        if key[axis].step not in (None, 1):
            return call.pin_all("a slice of channels with a step")
    elif call.input.labels.shape[axis] > 1:
        return call.pin_all("an indexing of one channel")
    flow_in = call.input
    if key[axis] != slice(None):
        flow_in = flow_in.expanded([axis])
    here = [
        (slice(None) if isinstance(k, slice) else 0)
        if flow_in.labels.shape[a] == 1 and a != axis
        else k
        for a, k in enumerate(key)
    ]
    if axis < len(here) and flow_in.labels.shape[axis] == 1:
        here[axis] = slice(None) if isinstance(key[axis], slice) else 0
    return flow_in.map(lambda a: a[tuple(here)], call.output_shape)


@narrow.register(GET_ITEM)
def _get_item_narrow(operation, part):
    """The kept channels of a slice are a slice of the kept channels."""
    shape, axis = part.call.input.shape, part.call.input.channel_axis
    key = _slices(part.call.argument("key", 1), len(shape))
    begin, end, _ = key[axis].indices(shape[axis])
    before = int(part.keep_in[0][:begin].sum())
    key[axis] = slice(before, before + int(part.keep_in[0][begin:end].sum()))
    return {"key": tuple(key)}, []


@flow.register(SPLIT)
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
    if part.call.axis_in is None:  # along another axis than the channels'
        return {}, []
    return {"indices_or_sections": [int(end) for end in np.cumsum(part.widths)[:-1]]}, []


@flow.register(operation_class("unstack"))
def _unstack_flow(operation, call):
    axis = operation.axis % len(call.input.shape)
    if call.input.labels.shape[axis] > 1:
        return call.pin_all("an unstacking of channels")
    return [call.input.map(lambda a: a.take(0, axis), shape) for shape in call.output_shapes]


@flow.register(operation_class("stack"))
def _stack_flow(operation, call):
    merged = call.merge(call.inputs)
    if isinstance(merged, list):
        return merged
    axis = operation.axis % len(call.output_shape)
    return merged.map(lambda a: np.expand_dims(a, axis), call.output_shape)


# --- products ---------------------------------------------------------------------------------


@flow.register(operation_class("einsum"))
def _einsum_flow(operation, call):
    text = operation.subscripts.replace(" ", "")
    if len(call.inputs) != 2 or "..." in text or "->" not in text:
        return call.pin_all("an einsum of another form than 'abc,adc->abd'")
    terms, made = text.split("->")
    return contract(call, *call.inputs, terms.split(","), made)


@flow.register(operation_class("matmul"))
def _matmul_flow(operation, call):
    ranks = {len(flow_in.shape) for flow_in in call.inputs}
    if len(call.inputs) != 2 or len(ranks) > 1 or min(ranks) < 2:
        return call.pin_all("a matmul of tensors of different ranks")
    batch = "abcdefgh"[: min(ranks) - 2]
    return contract(call, *call.inputs, (batch + "xy", batch + "yz"), batch + "xz")


# --- element by element ------------------------------------------------------------------------

UNARY = operation_classes(
    *"abs ceil cos exp expm1 floor log log1p log2 log10 negative round rsqrt sigmoid sign sin sqrt "
    "square tanh relu relu6 silu softplus softsign elu selu gelu leaky_relu hard_sigmoid hard_silu "
    "hard_tanh log_sigmoid celu erf reciprocal clip cast".split()
)
BINARY = operation_classes("divide", "true_divide", "power")
MERGING = operation_classes("add", "subtract", "maximum", "minimum")

flow.register(operation_class("softmax"))(softmax_flow)
is_sum.register(operation_class("add"))(adds_up)


@register_all(flow, *UNARY, *BINARY)
def _elementwise_flow(operation, call):
    if len(call.inputs) > 1:
        return call.pin_all(f"{type(operation).__name__} of several tensors")
    if call.is_pinned(call.input) and call.input.labels.size == 1:  # nothing that could go
        return call.input.replace(shape=call.output_shape)
    function = _without_tensors(operation, call)
    return apply_function(call, call.input, function, call.output_shape)


def _without_tensors(operation, call):
    """The operation as a function of its one symbolic argument."""

    def function(value):
        args, kwargs = keras.tree.map_structure(
            lambda a: value if isinstance(a, keras.KerasTensor) else a, (call.args, call.kwargs)
        )
        return operation.call(*args, **kwargs)

    return function


@register_all(flow, *MERGING)
def _merging_flow(operation, call):
    if len(call.inputs) == 1:
        return _elementwise_flow(operation, call)
    return call.merge(call.inputs)


@flow.register(operation_class("multiply"))
def _multiply_flow(operation, call):
    if len(call.inputs) == 1:
        return _elementwise_flow(operation, call)
    return call.multiply(call.inputs)


@flow.register(operation_class("concatenate"))
def _concatenate_flow(operation, call):
    return call.concatenate(call.inputs, operation.axis % len(call.output_shape))
