"""How channels pass through a layer: one small rule per kind of layer, labels in -> labels out.

`flow` is an open function in the manner of `functools.singledispatch`. A rule for a layer of one's
own is registered from outside:

    @flow.register(MyPointwiseLayer)
    def _(layer, call):
        return call.input.replace(shape=call.output_shape)

A rule receives the layer and a `Call` (see `resrep_keras.graph.trace`) and returns one `Flow` for
each output. A layer without a rule pins its inputs and outputs.
"""

import functools

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.graph.channels import State


@functools.singledispatch
def flow(layer, call):
    """Return the `Flow` of each output of one call of `layer`."""
    kind = type(layer).__name__
    return call.pin_all(
        f"{kind} has no rule for how channels pass through it; register one with "
        f"resrep_keras.graph.flow.flow.register({kind})"
    )


def rule_of(question, layer):
    """The rule of an open `question` for `layer`.

    A subclass inherits the rule of its base only where it computes the same thing, that is where
    it does not override `call`.
    """
    for base in type(layer).__mro__:
        if base in question.registry:
            inherited = getattr(type(layer), "call", None) is getattr(base, "call", None)
            return question.registry[base if inherited or base is type(layer) else object]
    return question.registry[object]


def register(*kinds):
    """Register one rule for several kinds of layer."""

    def decorate(rule):
        for kind in kinds:
            flow.register(kind)(rule)
        return rule

    return decorate


# --- what a function does to zeros -----------------------------------------------------------


def _probe_input(width, rank, seed):
    shape = (2,) + (1,) * (rank - 2) + (width,)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def commutes_with_selection(function, rank=2):
    """Whether selecting channels before and after `function` gives the same."""
    for seed, width in enumerate((8, 5)):
        x = _probe_input(width, rank, seed)
        chosen = [1, 2, width - 1]
        try:
            whole = ops.convert_to_numpy(function(ops.convert_to_tensor(x)))
            part = ops.convert_to_numpy(function(ops.convert_to_tensor(x[..., chosen])))
        except Exception:  # an arbitrary user function may fail in any way: it is then unknown
            return False
        if whole.shape != x.shape or not np.allclose(whole[..., chosen], part, atol=1e-6):
            return False
    return True


def keeps_zero(function):
    """Whether ``function(0) == 0``."""
    value = ops.convert_to_numpy(function(ops.zeros((1, 1), "float32")))
    return bool((value == 0).all())


def apply_function(call, flow_in, function, shape=None):
    """The flow behind an element-wise function; pins where it mixes channels."""
    if not commutes_with_selection(function, max(2, len(flow_in.shape))):
        return call.pin(flow_in, "an activation that mixes channels or is unknown")
    flow_out = flow_in.replace(shape=tuple(shape or flow_in.shape))
    return flow_out if keeps_zero(function) else call.constant(flow_out)


def activate(call, flow_out, activation):
    """The flow behind the `activation` argument of a layer."""
    if activation is None or activation is keras.activations.linear:
        return flow_out
    return apply_function(call, flow_out, activation)


# --- weighted layers ---------------------------------------------------------------------------


def channel_axis(layer, rank):
    return 1 if layer.data_format == "channels_first" else rank - 1


def pads(layer):
    """Whether a convolution reads zeros beyond the border."""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


@register(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def _conv(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    if layer.groups > 1:
        call.pin(call.input, "the input of a grouped convolution")
    call.consume(call.input, axis, folds=State.CONSTANT, padded=pads(layer))
    out = call.produce(axis, layer.filters)
    if layer.groups > 1:
        out = call.pin(out, "a grouped convolution")
    return activate(call, call.site(out, axis), layer.activation)


@flow.register
def _dense(layer: layers.Dense, call):
    axis = len(call.input.shape) - 1
    folds = State.FIXED if axis == 1 else State.CONSTANT
    call.consume(call.input, axis, folds=folds)
    out = call.produce(axis, layer.units)
    return activate(call, call.site(out, axis), layer.activation)


@flow.register
def _depthwise(layer: layers.DepthwiseConv2D, call):
    axis = channel_axis(layer, len(call.input.shape))
    flow_in = call.vector(call.input, axis)
    out = flow_in.map(lambda a: np.repeat(a, layer.depth_multiplier, axis), call.output_shape)
    if pads(layer):
        out = call.uneven(out)
    if layer.use_bias:
        out = call.constant(out)
    return activate(call, call.site(out, axis, gate=True), layer.activation)


@flow.register
def _batch_norm(layer: layers.BatchNormalization, call):
    axis = layer.axis % len(call.input.shape)
    flow_in = call.vector(call.input, axis)
    return call.site(call.constant(flow_in), axis, gate=True)


# --- element-wise ------------------------------------------------------------------------------


@register(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
def _activation(layer, call):
    function = getattr(layer, "activation", None) or layer.call
    return apply_function(call, call.input, function)


@flow.register
def _softmax(layer: layers.Softmax, call):
    return call.pin_all("a softmax, whose value depends on all channels together")


@flow.register
def _prelu(layer: layers.PReLU, call):
    """Slopes that differ between positions turn a constant into values that do."""
    spatial = np.delete(layer.alpha.shape, call.input.channel_axis - 1)
    return call.uneven(call.input) if (spatial > 1).any() else call.input


@register(
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Identity,
)
def _same(layer, call):
    return call.input


@flow.register
def _rescaling(layer: layers.Rescaling, call):
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        return call.pin_all("a Rescaling with one factor per channel")
    return call.input if layer.offset == 0 else call.constant(call.input)


# --- spatial -----------------------------------------------------------------------------------


def _spatial(layer, call, uneven=False):
    axis = channel_axis(layer, len(call.input.shape))
    out = call.vector(call.input, axis).replace(shape=call.output_shape)
    return call.uneven(out) if uneven else out


@register(
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.Cropping2D,
    layers.UpSampling2D,
)
def _pooling(layer, call):
    return _spatial(layer, call)


@flow.register
def _zero_padding(layer: layers.ZeroPadding2D, call):
    return _spatial(layer, call, uneven=True)


@register(
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
def _global_pooling(layer, call):
    axis = channel_axis(layer, len(call.input.shape))
    flow_in = call.vector(call.input, axis)
    state = np.where(flow_in.state == State.FIXED, State.CONSTANT, flow_in.state)
    flow_in = flow_in.replace(state=state.astype(np.int8))
    if layer.keepdims:
        return flow_in.replace(shape=call.output_shape)
    spatial = tuple(a for a in range(1, len(flow_in.shape)) if a != axis)
    return flow_in.map(lambda a: a.squeeze(spatial), call.output_shape)


@flow.register
def _flatten(layer: layers.Flatten, call):
    flow_in = call.input
    if None in flow_in.shape[1:]:
        return call.pin_all("a Flatten of unknown size")
    flow_in = flow_in.expanded()
    if layer.data_format == "channels_first" and len(flow_in.shape) > 2:
        flow_in = flow_in.replace(
            labels=np.moveaxis(flow_in.labels, 1, -1), state=np.moveaxis(flow_in.state, 1, -1)
        )
    return flow_in.map(lambda a: a.reshape(1, -1), call.output_shape)


@flow.register
def _reshape(layer: layers.Reshape, call):
    """Follows the channel axis where it survives as one axis; axes of 1 come and go."""
    flow_in = call.input
    if None in flow_in.shape[1:] or None in call.output_shape[1:]:
        return call.pin_all("a Reshape of unknown size")
    out = flow_in.expanded().map(
        lambda a: a.reshape((1, *call.output_shape[1:])), call.output_shape
    )
    if out.channel_axis is None:
        return call.pin_all("a Reshape that spreads channels over several axes")
    return out


# --- several inputs ----------------------------------------------------------------------------


@register(layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum)
def _merge(layer, call):
    return call.merge(call.inputs)


@flow.register
def _multiply(layer: layers.Multiply, call):
    return call.multiply(call.inputs)


@flow.register
def _concatenate(layer: layers.Concatenate, call):
    return call.concatenate(call.inputs, layer.axis % len(call.output_shape))


# --- raw keras.ops nodes -----------------------------------------------------------------------


def operation_kind(function, arity=1, **kwargs):
    """The operation class behind a `keras.ops` function, found by calling it symbolically."""
    inputs = [keras.Input((4,)) for _ in range(arity)]
    return type(keras.Model(inputs, function(*inputs, **kwargs)).operations[-1])


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
for _name in ("divide", "true_divide", "power"):
    flow.register(operation_kind(getattr(ops, _name), 2))(_elementwise_operation)
for _name in ("add", "subtract", "maximum", "minimum"):
    flow.register(operation_kind(getattr(ops, _name), 2))(_merging_operation)
flow.register(operation_kind(ops.multiply, 2))(_multiplying_operation)


@flow.register(operation_kind(lambda a, b: ops.concatenate([a, b]), 2))
def _concatenate_operation(operation, call):
    return call.concatenate(call.inputs, operation.axis % len(call.output_shape))
