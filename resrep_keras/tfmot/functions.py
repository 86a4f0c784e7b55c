"""Operations of `keras.ops` that no layer of tf_keras computes, as functions of TensorFlow."""

import numpy as np

from resrep_keras.graph.flow import register_all
from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.keras_adapter import operation_classes
from resrep_keras.tfmot.counterparts import NotTaken, counterpart


def _tf():
    import tensorflow as tf

    return tf


def _axes(operation, rank):
    axes = range(rank) if operation.axis is None else np.atleast_1d(operation.axis).tolist()
    return [int(axis) % rank for axis in axes]


def _reduced(name):
    def call(operation, x):
        reduce = getattr(_tf(), name, None) or getattr(_tf().math, name)
        return reduce(x, _axes(operation, len(x.shape)), operation.keepdims)

    return call


def _same(name):
    """TensorFlow's function of a name in `tf.math`."""
    return lambda operation, *args: getattr(_tf().math, name)(*args)


def _moved(operation, x):
    rank = len(x.shape)
    source = [axis % rank for axis in np.atleast_1d(operation.source)]
    target = [axis % rank for axis in np.atleast_1d(operation.destination)]
    order = [axis for axis in range(rank) if axis not in source]
    for place, axis in sorted(zip(target, source)):
        order.insert(place, axis)
    return _tf().transpose(x, order)


def _swapped(operation, x):
    order = list(range(len(x.shape)))
    first, second = operation.axis1, operation.axis2
    order[first], order[second] = order[second], order[first]
    return _tf().transpose(x, order)


def _expanded(operation, x):
    axes = np.atleast_1d(operation.axis)
    for axis in sorted(int(axis) % (len(x.shape) + len(axes)) for axis in axes):
        x = _tf().expand_dims(x, axis)
    return x


def _split(operation, x):
    sections, axis = operation.indices_or_sections, operation.axis
    if not isinstance(sections, int):
        ends = [*sections, x.shape[axis]]
        sections = [int(n) for n in np.diff([0, *ends])]
    return _tf().split(x, sections, axis)


def _reshaped(operation, x):
    return _tf().reshape(x, [-1 if n is None else n for n in operation.newshape])


def _padded(operation, x, constant_values=None):
    return _tf().pad(x, operation.pad_width, operation.mode, constant_values or 0)


def _resized(operation, images):
    if operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio:
        raise NotTaken("crop_to_aspect_ratio or pad_to_aspect_ratio")
    return _tf().image.resize(
        images, operation.size, method=operation.interpolation, antialias=operation.antialias
    )


def _einsum(operation, *operands, **_):
    return _tf().einsum(operation.subscripts, *operands)


# By the name in keras.ops: a function of the operation and of what it is called on.
FUNCTIONS = {
    **{
        name: _same(name)
        for name in (
            *("log", "sqrt", "rsqrt", "abs", "square", "sign", "floor", "ceil", "sin", "cos"),
            *("log1p", "expm1", "erf", "round", "reciprocal", "add", "subtract", "multiply"),
            *("maximum", "minimum", "equal", "not_equal", "greater", "greater_equal", "less"),
            *("less_equal", "logical_and", "logical_or", "logical_not", "divide_no_nan"),
        )
    },
    **{name: _reduced(f"reduce_{name}") for name in ("mean", "max", "min", "sum", "prod", "std")},
    **{name: _reduced(f"reduce_{name}") for name in ("all", "any")},
    "var": _reduced("reduce_variance"),
    "logsumexp": _reduced("reduce_logsumexp"),
    "true_divide": _same("divide"),
    "divide": _same("divide"),
    "power": _same("pow"),
    "matmul": lambda operation, *args: _tf().matmul(*args),
    "einsum": _einsum,
    "softmax": lambda operation, x: _tf().nn.softmax(x, operation.axis),
    "log_softmax": lambda operation, x: _tf().nn.log_softmax(x, operation.axis),
    "gelu": lambda operation, x: _tf().nn.gelu(x, operation.approximate),
    "clip": lambda operation, x: _tf().clip_by_value(x, operation.x_min, operation.x_max),
    "cast": lambda operation, x: _tf().cast(x, operation.dtype),
    "where": lambda operation, *args: _tf().where(*args),
    "reshape": _reshaped,
    "transpose": lambda operation, x: _tf().transpose(x, operation.axes),
    "expand_dims": _expanded,
    "squeeze": lambda operation, x: _tf().squeeze(x, operation.axis),
    "moveaxis": _moved,
    "swapaxes": _swapped,
    "concatenate": lambda operation, xs: _tf().concat(xs, operation.axis),
    "stack": lambda operation, xs: _tf().stack(xs, operation.axis),
    "split": _split,
    "pad": _padded,
    "tile": lambda operation, x: _tf().tile(x, operation.repeats),
    "repeat": lambda operation, x: _tf().repeat(x, operation.repeats, operation.axis),
    "roll": lambda operation, x: _tf().roll(x, operation.shift, operation.axis),
    "flip": lambda operation, x: _tf().reverse(x, _axes(operation, len(x.shape))),
    "take": lambda operation, x, indices: _tf().gather(x, indices, axis=operation.axis),
    "get_item": lambda operation, x, key: x[key],
    "broadcast_to": lambda operation, x: _tf().broadcast_to(x, operation.shape),
    "image.resize": _resized,
    "slice": lambda operation, x, begin: _tf().slice(x, begin, operation.shape),
    "ones_like": lambda operation, x: _tf().ones_like(x, operation.dtype),
    "zeros_like": lambda operation, x: _tf().zeros_like(x, operation.dtype),
    "stop_gradient": lambda operation, x: _tf().stop_gradient(x),
}
_BY_CLASS = {kind: FUNCTIONS[name] for name in FUNCTIONS for kind in operation_classes(name)}


@register_all(counterpart, *_BY_CLASS)
def of_tensorflow(operation, recorded):
    """A function of TensorFlow on tensors of tf_keras, which makes a layer of each call."""
    types = {tensor.dtype for tensor in symbolic_tensors(recorded.args, recorded.kwargs)}
    if len({dtype for dtype in types if dtype != "bool"}) > 1:
        listed = ", ".join(sorted(types))
        raise NotTaken(f"inputs of the types {listed}, which TensorFlow does not mix")
    function = _BY_CLASS[type(operation)]
    return lambda *args, **kwargs: function(operation, *args, **kwargs)
