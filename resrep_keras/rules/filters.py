"""Convolutions of `keras.ops`, whose kernels are arrays or tensors."""

from resrep_keras.costs.macs import labels_along, macs, positions_of, times
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import flow, register_all
from resrep_keras.graph.recording import is_symbolic
from resrep_keras.keras_adapter import operation_class, operation_classes
from resrep_keras.rules.arrays import as_array, is_variable
from resrep_keras.surgery.narrow import narrow, take

CONV, DEPTHWISE = operation_classes("conv", "depthwise_conv")


def _axis(operation, rank):
    """The channel axis."""
    return 1 if (operation.data_format or "channels_last") == "channels_first" else rank - 1


def _array(call):
    """The kernel of a convolution with an array, or `None`."""
    kernel = call.argument("kernel", 1)
    own = is_symbolic(kernel) or is_variable(kernel)
    return None if own or len(call.inputs) != 1 else as_array(kernel)


def _one_kernel(call):
    """The kernel of a convolution with an array that reads all channels, or `None`."""
    kernel = _array(call)
    read = None if kernel is None else call.input.shape[_axis(call.operation, kernel.ndim)]
    return kernel if kernel is not None and kernel.shape[-2] == read else None


# --- how channels pass ---------------------------------------------------------------------------


@flow.register(CONV)
def _conv_flow(operation, call):
    """What an array makes of channels is none; zeros make none of it."""
    kernel = _one_kernel(call)
    if kernel is None:
        return _without_array(operation, call)
    axis = _axis(operation, kernel.ndim)
    call.consume(call.input, axis)
    call.need_one(call.input)
    return call.neutral(call.output_shape, "an array makes them")


@flow.register(DEPTHWISE)
def _depthwise_flow(operation, call):
    """Each channel passes by itself; it may become several."""
    kernel = _array(call)
    if kernel is None:
        return _without_array(operation, call)
    axis = _axis(operation, kernel.ndim)
    whole = call.vector(call.input, axis)
    out = whole.map(lambda a: a.repeat(kernel.shape[-1], axis), call.output_shape)
    return out if operation.padding == "valid" else call.uneven(out)


def _without_array(operation, call):
    return flow.registry[object](operation, call)


@register_all(narrow, CONV, DEPTHWISE)
def _kernel_narrow(operation, part):
    if part.call.found is not None:
        return part.call.found.narrow(operation, part)
    return {"kernel": take(_array(part.call), -2, part.keep_in[0])}, []


# --- what they multiply --------------------------------------------------------------------------


def _spatial(operation, shape):
    """Number of positions of a tensor, its channels left out."""
    return positions_of(shape, _axis(operation, len(shape)))


@macs.register(CONV)
def _conv_macs(operation, call):
    """A kernel holds what one group reads, so that its entries are multiplied once a position."""
    sizes = list(call.argument("kernel", 1).shape)
    factors = ()
    if _one_kernel(call) is not None:
        sizes[-2] = 1
        factors = (labels_along(call.input, _axis(operation, len(sizes))),)
    return Term(times(_spatial(operation, call.output_shape), *sizes), factors)


@macs.register(DEPTHWISE)
def _depthwise_macs(operation, call):
    *sizes, channels, each = call.argument("kernel", 1).shape
    factors, positions = (), _spatial(operation, call.output_shape)
    if _array(call) is not None:
        factors = (labels_along(call.input, _axis(operation, len(sizes) + 2)),)
        channels = 1
    return Term(times(positions, *sizes, channels, each), factors)


@macs.register(operation_class("separable_conv"))
def _separable_macs(operation, call):
    kernels = call.argument("depthwise_kernel", 1), call.argument("pointwise_kernel", 2)
    positions = _spatial(operation, call.output_shape)
    return [Term(times(positions, *kernel.shape), ()) for kernel in kernels]


@macs.register(operation_class("conv_transpose"))
def _conv_transpose_macs(operation, call):
    """Each input position is multiplied with the whole kernel, as if no border cut it."""
    kernel = call.argument("kernel", 1)
    return Term(times(_spatial(operation, call.input.shape), *kernel.shape), ())
