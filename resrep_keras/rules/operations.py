"""How channels pass through raw `keras.ops`, and through products of two tensors."""

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import apply_function, flow
from resrep_keras.graph.labels import State
from resrep_keras.rules.shapes import operation_kind, reduced, reshape, softmax

flow.register(operation_kind(lambda x: ops.reshape(x, (-1, 16))))(reshape)
flow.register(operation_kind(ops.softmax))(softmax)


@flow.register(operation_kind(ops.transpose, axes=(0, 2, 1)))
def _transpose(operation, call):
    return call.input.map(lambda a: np.transpose(a, operation.axes), call.output_shape)


@flow.register(operation_kind(ops.swapaxes, axis1=1, axis2=2))
def _swapaxes(operation, call):
    axes = operation.axis1, operation.axis2
    return call.input.map(lambda a: np.swapaxes(a, *axes), call.output_shape)


@flow.register(operation_kind(ops.moveaxis, source=1, destination=2))
def _moveaxis(operation, call):
    return call.input.map(
        lambda a: np.moveaxis(a, operation.source, operation.destination), call.output_shape
    )


@flow.register(operation_kind(ops.expand_dims, axis=1))
def _expand_dims(operation, call):
    return call.input.map(lambda a: np.expand_dims(a, operation.axis), call.output_shape)


@flow.register(operation_kind(lambda x: ops.squeeze(x, axis=1), shape=(1, 4)))
def _squeeze(operation, call):
    axes = operation.axis
    if axes is None:
        axes = [a for a, size in enumerate(call.input.shape) if size == 1]
    axes = tuple(a % len(call.input.shape) for a in np.atleast_1d(axes).tolist())
    return call.input.map(lambda a: a.squeeze(axes), call.output_shape)


def _reduction(operation, call):
    rank = len(call.input.shape)
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    axes = tuple(axis % rank for axis in axes)
    if 0 in axes or any(call.input.labels.shape[axis] > 1 for axis in axes):
        return call.pin_all(f"{type(operation).__name__} over channels")
    return reduced(call, call.input, axes, operation.keepdims)


for _function in (ops.mean, ops.sum, ops.max, ops.min):
    flow.register(operation_kind(_function, axis=1))(_reduction)


@flow.register(operation_kind(lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0)))))
def _pad(operation, call):
    values = call.argument("constant_values", 1)
    padded = [axis for axis, pair in enumerate(operation.pad_width) if any(pair)]
    if any(call.input.labels.shape[axis] > 1 for axis in padded):
        return call.pin_all("a padding of the channel axis")
    if operation.mode == "constant":
        if values is not None and np.any(values):
            return call.pin_all("a padding with other values than zero")
        return call.uneven(call.input)
    return call.input.replace(shape=call.output_shape)


def _resized(operation, call):
    return call.input.replace(shape=call.output_shape)


flow.register(operation_kind(ops.average_pool, pool_size=2, shape=(4, 4)))(_resized)
flow.register(operation_kind(ops.max_pool, pool_size=2, shape=(4, 4)))(_resized)
flow.register(operation_kind(lambda x: ops.image.resize(x, (2, 2)), shape=(4, 4, 1)))(_resized)


# --- parts -------------------------------------------------------------------------------------


def slices(key, rank):
    """The key of an indexing with one entry for each axis, or `None` where it is not that simple."""
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if any(not (k is Ellipsis or isinstance(k, (slice, int, np.integer))) for k in key):
        return None
    if Ellipsis in key:
        position = key.index(Ellipsis)
        key[position : position + 1] = [slice(None)] * (rank - len(key) + 1)
    return key + [slice(None)] * (rank - len(key))


@flow.register(operation_kind(lambda x: x[:, :2]))
def _get_item(operation, call):
    key = slices(call.argument("key", 1), len(call.input.shape))
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


@flow.register(operation_kind(lambda x: ops.split(x, 2, axis=1)))
def _split(operation, call):
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


@flow.register(operation_kind(lambda x: ops.unstack(x, axis=1)))
def _unstack(operation, call):
    axis = operation.axis % len(call.input.shape)
    if call.input.labels.shape[axis] > 1:
        return call.pin_all("an unstacking of channels")
    return [call.input.map(lambda a: a.take(0, axis), shape) for shape in call.output_shapes]


@flow.register(operation_kind(lambda a, b: ops.stack([a, b], axis=1), 2))
def _stack(operation, call):
    merged = call.merge(call.inputs)
    if isinstance(merged, list):
        return merged
    axis = operation.axis % len(call.output_shape)
    return merged.map(lambda a: np.expand_dims(a, axis), call.output_shape)


# --- products ---------------------------------------------------------------------------------


def contract(call, first, second, terms, made):
    """A product that is summed over shared axes, written as an einsum over two flows.

    A channel that is summed over, or that both flows share, vanishes where one factor is zero.
    """
    flows = {}
    for flow_in, letters in ((first, terms[0]), (second, terms[1])):
        if len(set(letters)) < len(letters) or len(letters) != len(flow_in.shape):
            return call.pin_all("a product over an axis with itself")
        for axis, letter in enumerate(letters):
            flows.setdefault(letter, []).append((flow_in, axis))
    for letter, places in flows.items():
        wide = any(flow_in.labels.shape[axis] > 1 for flow_in, axis in places)
        if not wide:
            continue
        if len(places) == 1 and letter not in made:
            return call.pin_all("a sum over channels")
        if len(places) == 2:
            vectors = [call.vector(flow_in, axis) for flow_in, axis in places]
            call.couple(vectors[0].labels.ravel(), vectors[1].labels.ravel())
            states = np.min([v.state.ravel() for v in vectors], axis=0)
            if (states > State.ZERO).any():
                call.require(vectors[0])
    wide = [
        (letter, *place)
        for letter in made
        for place in flows[letter]
        if place[0].labels.shape[place[1]] > 1
    ]
    if len({letter for letter, *_ in wide}) > 1:
        return call.pin_all("a product with channels along several axes")
    if not wide:
        return call.neutral(call.output_shape)
    letter, flow_in, axis = wide[0]
    vector = call.vector(flow_in, axis)
    shape = [1] * len(made)
    shape[made.index(letter)] = -1
    zero = np.min([f.expanded([a]).state.ravel() for _, f, a in wide], axis=0) == State.ZERO
    state = np.where(zero, State.ZERO, State.VARYING).astype(np.int8)
    return vector.replace(
        labels=vector.labels.reshape(shape), state=state.reshape(shape), shape=call.output_shape
    )


@flow.register(operation_kind(lambda a, b: ops.einsum("abc,adc->abd", a, b), 2))
def _einsum(operation, call):
    text = operation.subscripts.replace(" ", "")
    if len(call.inputs) != 2 or "..." in text or "->" not in text:
        return call.pin_all("an einsum of another form than 'abc,adc->abd'")
    terms, made = text.split("->")
    return contract(call, *call.inputs, terms.split(","), made)


@flow.register(operation_kind(ops.matmul, 2))
def _matmul(operation, call):
    ranks = {len(flow_in.shape) for flow_in in call.inputs}
    if len(call.inputs) != 2 or len(ranks) > 1 or min(ranks) < 2:
        return call.pin_all("a matmul of tensors of different ranks")
    batch = "abcdefgh"[: min(ranks) - 2]
    return contract(call, *call.inputs, (batch + "xy", batch + "yz"), batch + "xz")


@flow.register
def _dot(layer: layers.Dot, call):
    first, second = call.inputs
    pair = layer.axes if isinstance(layer.axes, (list, tuple)) else [layer.axes] * 2
    one, two = (axis % len(f.shape) for axis, f in zip(pair, call.inputs))
    left = ["a", *"bcdefg"[: len(first.shape) - 1]]
    right = ["a", *"hijklm"[: len(second.shape) - 1]]
    left[one] = right[two] = "z"
    made = [x for x in left if x != "z"] + [x for x in right[1:] if x != "z"]
    if len(made) == 1:  # Keras leaves an axis of 1
        contract(call, first, second, (left, right), made)
        return call.neutral(call.output_shape)
    return contract(call, first, second, (left, right), made)


# --- element by element ------------------------------------------------------------------------


def _without_tensors(operation, call):
    """The operation as a function of its one symbolic argument."""

    def function(value):
        args, kwargs = keras.tree.map_structure(
            lambda a: value if isinstance(a, keras.KerasTensor) else a, (call.args, call.kwargs)
        )
        return operation.call(*args, **kwargs)

    return function


def _elementwise_operation(operation, call):
    if len(call.inputs) == 1:
        return apply_function(
            call, call.input, _without_tensors(operation, call), call.output_shape
        )
    return call.pin_all(f"{type(operation).__name__} of several tensors")


def _merging_operation(operation, call):
    if len(call.inputs) == 1:
        return _elementwise_operation(operation, call)
    return call.merge(call.inputs)


def _multiplying_operation(operation, call):
    if len(call.inputs) == 1:
        return _elementwise_operation(operation, call)
    return call.multiply(call.inputs)


UNARY = (
    "abs ceil cos exp expm1 floor log1p negative round rsqrt sigmoid sign sin sqrt square tanh "
    "relu relu6 silu softplus softsign elu selu gelu leaky_relu hard_sigmoid hard_silu hard_tanh "
    "log_sigmoid mish celu erf reciprocal"
).split()

for _name in filter(lambda name: hasattr(ops, name), UNARY):  # older Keras has fewer
    flow.register(operation_kind(getattr(ops, _name)))(_elementwise_operation)
flow.register(operation_kind(ops.clip, x_min=0, x_max=1))(_elementwise_operation)
flow.register(operation_kind(ops.cast, dtype="float16"))(_elementwise_operation)
for _name in ("divide", "true_divide", "power"):
    flow.register(operation_kind(getattr(ops, _name), 2))(_elementwise_operation)
for _name in ("add", "subtract", "maximum", "minimum"):
    flow.register(operation_kind(getattr(ops, _name), 2))(_merging_operation)
flow.register(operation_kind(ops.multiply, 2))(_multiplying_operation)


@flow.register(operation_kind(lambda a, b: ops.concatenate([a, b]), 2))
def _concatenate_operation(operation, call):
    return call.concatenate(call.inputs, operation.axis % len(call.output_shape))
