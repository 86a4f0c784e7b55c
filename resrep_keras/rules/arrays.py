"""Operations entry by entry: of one tensor, of tensors and arrays that lie along channels."""

import inspect

import keras
import numpy as np
from keras import ops

from resrep_keras.common.eager import eagerly
from resrep_keras.graph.blocks import is_sum
from resrep_keras.graph.flow import apply_function, flow, register_all, takes_several_axes
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.rules.merging import adds_up
from resrep_keras.surgery.narrow import narrow, take

UNARY = operation_classes(
    *"abs arccos arccosh arcsin arcsinh arctan arctanh cast cbrt ceil celu clip copy cos cosh "
    "deg2rad elu erf erfc erfinv exp exp2 expm1 fabs floor gelu hard_shrink hard_sigmoid hard_silu "
    "hard_tanh isfinite isinf isnan leaky_relu log log10 log1p log2 log_sigmoid logical_not "
    "nan_to_num negative rad2deg real reciprocal relu relu6 round rsqrt saturate_cast "
    "selu sigmoid sign signbit silu sin sinc sinh soft_shrink softplus softsign sparse_plus "
    "sparse_sigmoid sqrt square squareplus stop_gradient tan tanh tanh_shrink "
    "threshold trunc".split()
)
BINARY = operation_classes(
    *"arctan2 divide_no_nan equal floor_divide fmax fmin fmod greater greater_equal heaviside "
    "hypot isclose less less_equal logaddexp logaddexp2 logical_and logical_or logical_xor mod "
    "not_equal power".split()
)
DIVISIONS = operation_classes("divide", "true_divide")
MERGING = operation_classes("add", "subtract", "maximum", "minimum")
MULTIPLY, WHERE = operation_class("multiply"), operation_class("where")
OF_ONE = (*UNARY, *BINARY, *DIVISIONS, *MERGING, MULTIPLY)

is_sum.register(operation_class("add"))(adds_up)


@register_all(flow, *UNARY)
def elementwise_flow(operation, call):
    """The flow behind a function of one tensor, which arrays may go into that have channels."""
    if len(call.inputs) > 1:
        return call.pin_all(f"{type(operation).__name__} of several tensors")
    if _given_arrays(call):
        call.inputs = (call.plain(call.input),)
    if call.input.labels.size == 1 and call.is_pinned(call.input):  # nothing that could go
        alike = (1,) * len(call.output_shape)
        return call.input.map(lambda a: a.reshape(alike), call.output_shape)
    if _arrays(call):
        return _with_arrays(call, _function(operation, call))
    return apply_function(call, call.input, _function(operation, call), call.output_shape)


@register_all(takes_several_axes, *UNARY, *MERGING, MULTIPLY)
def _entries_cross(operation):
    return True


def _function(operation, call):
    """The operation as a function that stands for all its symbolic arguments."""

    def function(value):
        args, kwargs = keras.tree.map_structure(
            lambda a: value if is_symbolic(a) else a, (call.args, call.kwargs)
        )
        return operation.call(*args, **kwargs)

    return function


# --- several tensors -----------------------------------------------------------------------------


@register_all(flow, *MERGING)
def _merging_flow(operation, call):
    if len(call.inputs) == 1:
        return elementwise_flow(operation, call)
    return call.merge(call.inputs)


@flow.register(MULTIPLY)
def _multiply_flow(operation, call):
    if len(call.inputs) == 1:
        return elementwise_flow(operation, call)
    return call.multiply(call.inputs)


@register_all(flow, *BINARY)
def _binary_flow(operation, call):
    if len(call.inputs) == 1:
        return elementwise_flow(operation, call)
    merged = call.merge(call.inputs)
    if isinstance(merged, list):
        return merged
    zeros = _value(_function(operation, call), np.zeros((1, 1), "float32"))
    if not np.isfinite(zeros).all():
        return call.pin_all(f"{type(operation).__name__} of zeros, which is no finite number")
    return call.constant(merged) if zeros.any() else merged


@register_all(flow, *DIVISIONS)
def _division_flow(operation, call):
    """Zero divided by what is not zero: a divisor of the same channels must not vanish."""
    if len(call.inputs) == 1:
        return elementwise_flow(operation, call)
    above, below = call.inputs
    if below.wide_axes and not call.is_pinned(below) and not _removed_value(call, 1):
        text = "a division by channels that are zero once they are removed, or may be"
        return call.pin_all(text, PinKind.NOT_FINITE)
    out = call.merge(call.inputs)
    if isinstance(out, list) or (above.state > State.ZERO).any():
        return out
    return out.replace(state=np.zeros_like(out.state))


def _removed_value(call, position, far=8):
    """The finite number that removed channels of an input hold, or `None`."""
    if (call.inputs[position].state == State.ZERO).all():
        return 0.0
    maker = call.maker(position)
    if maker is None or not far or not isinstance(maker.operation, OF_ONE):
        return None
    before = _removed_value(maker, 0, far - 1)
    if before is None or len(maker.inputs) > 1 or _given_arrays(maker):
        return None
    value = _value(_function(maker.operation, maker), np.full((1, 1), before, "float32")).item()
    return value if np.isfinite(value) else None


@flow.register(WHERE)
def _where_flow(operation, call):
    """What is chosen between is zero on both sides, or removed channels are not zero."""
    if len(call.inputs) == 1:
        return elementwise_flow(operation, call)
    out = call.merge(call.inputs)
    if isinstance(out, list):
        return out
    given = [call.argument(name, position) for position, name in ((1, "x1"), (2, "x2"))]
    flows = [each for value in given for each in call.flows_of(value)]
    arrays = [value for value in given if not is_symbolic(value)]
    zero = all(not np.any(as_array(value)) for value in arrays)
    zero = zero and all((each.state == State.ZERO).all() for each in flows)
    return out.replace(state=np.zeros_like(out.state)) if zero else call.constant(out)


# --- arrays --------------------------------------------------------------------------------------


def as_array(value):
    """An array, tensor or list that is no symbolic one, as a NumPy array."""
    return np.asarray(ops.convert_to_numpy(value) if ops.is_tensor(value) else value)


def _given_arrays(call):
    """``{name of an argument: array}`` of a call."""
    names = list(inspect.signature(call.operation.call).parameters)
    given = {**dict(zip(names, call.args)), **call.kwargs}
    return {name: as_array(value) for name, value in given.items() if _holds_numbers(value)}


def _holds_numbers(value):
    other = is_symbolic(value) or is_variable(value) or isinstance(value, str)
    return not other and np.ndim(value) > 0


def is_variable(value):
    """Whether a value is a variable, which is trained and belongs to a layer."""
    return isinstance(value, keras.Variable)


def _arrays(call):
    """The given arrays that lie along axes along which an input has channels."""
    wide = next((flow_in for flow_in in call.inputs if flow_in.wide_axes), None)
    if wide is None:
        return {}
    axes = [axis - len(wide.shape) for axis in wide.wide_axes]
    return {name: a for name, a in _given_arrays(call).items() if any(_lies(a, x) for x in axes)}


def _lies(array, axis):
    """Whether an array has several entries along an axis, which is counted from the end."""
    return array.ndim >= -axis and array.shape[axis] > 1


def _with_arrays(call, function):
    """Each channel meets its own entries of the arrays, which are narrowed with it."""
    flow_in, rank = call.input, len(call.input.shape)
    arrays = _given_arrays(call).values()
    if len(call.output_shape) != rank or any(_lies(array, -rank) for array in arrays):
        return call.pin_all("an array that lies along the axis of the examples")
    finite, made = _states_of_zeros(call, function)
    if not finite.all():
        gone = flow_in.replace(labels=flow_in.labels[~finite])
        call.pin(gone, "an operation whose value at zero is no finite number", PinKind.NOT_FINITE)
    others = set(range(1, rank)) - set(flow_in.wide_axes)
    known = flow_in.state
    if any(_lies(array, axis - rank) for array in arrays for axis in others):
        known = call.uneven(flow_in).state
    state = np.where(flow_in.state == State.ZERO, made, known).astype(np.int8)
    origins = flow_in.origins | {call.index} if state.any() else flow_in.origins
    return flow_in.replace(state=state, shape=call.output_shape, origins=origins)


def _states_of_zeros(call, function):
    """Which channels have a finite value at zero, and what they hold; shaped as the labels."""
    flow_in = call.input
    wide = flow_in.wide_axes
    shape = [size if axis in wide else 1 for axis, size in enumerate(flow_in.shape)]
    values = _value(function, np.zeros(shape, call.tensors[0][0].dtype))
    positions = tuple(axis for axis in range(len(shape)) if axis not in wide)
    low, high = (f(values, axis=positions, keepdims=True) for f in (np.min, np.max))
    same = np.where(low.astype(bool), State.CONSTANT, State.ZERO)
    return np.isfinite(low + high), np.where(low == high, same, State.FIXED)


def _value(function, zeros):
    with eagerly():  # also where a traced step asks
        return np.asarray(ops.convert_to_numpy(function(ops.convert_to_tensor(zeros))), np.float64)


@register_all(narrow, *OF_ONE, WHERE)
def _arrays_narrow(operation, part):
    """Arrays that lie along the channels lose what they lose."""
    flow_out = part.call.outputs[0]
    if len(flow_out.wide_axes) != 1:
        return {}, []
    axis = flow_out.channel_axis - len(flow_out.shape)
    along = {name: array for name, array in _given_arrays(part.call).items() if _lies(array, axis)}
    return {name: take(array, axis, part.keep_out.mask) for name, array in along.items()}, []
