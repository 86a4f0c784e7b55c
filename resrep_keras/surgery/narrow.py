"""The layer with fewer channels: one rule per layer that holds channels in weights or settings.

`narrow` is an open function. A rule reads a `Part` and returns the changed entries of the layer's
configuration and its new weights. It selects with `take`, which accepts a keep mask or a matrix:
the same rule that removes channels also folds a compactor into the layer.
"""

import dataclasses
import functools
import math

import numpy as np
from keras import layers, ops

from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.rules.weights import EinsumAxes, LayerScale, is_depthwise


@dataclasses.dataclass(frozen=True)
class Part:
    """What is left of a layer.

    Args:
        keep_in: For each input, a bool array along the channel axis.
        keep_out: What becomes of the output channels, in one of the forms of `take`: selected,
            scaled, or mixed.
        constants: Values `(channels,)` that the removed channels of the first input hold, or
            `None` where they hold zero.
        shift: Added to the new output channels. Defaults to 0.
        inside: ``{name: bool (channels,)}``, what is kept of channels that the layer holds inside.
        output_shape: Shape of the first output with fewer channels.
        widths: Number of channels that each output keeps.
        call: The `Call` of the layer, with its arguments and dense shapes.
    """

    keep_in: tuple
    keep_out: np.ndarray
    constants: np.ndarray | None = None
    shift: np.ndarray | None = None
    inside: dict = dataclasses.field(default_factory=dict)
    output_shape: tuple = ()
    widths: tuple = ()
    call: object = None

    def keep_of(self, argument, position):
        """The entry of `keep_in` of an argument of the call; `None` where it is not given."""
        tensors = symbolic_tensors(self.call.argument(argument, position), {})
        return self.keep_in[self.call.input_ids.index(id(tensors[0]))] if tensors else None


@functools.singledispatch
def narrow(layer, part):
    """Return ``(config changes, weights)`` of `layer` with the channels of `part`."""
    raise ValueError(
        f"{type(layer).__name__} '{layer.name}' has no rule for fewer channels. Register one with "
        f"resrep_keras.surgery.narrow.narrow.register({type(layer).__name__})."
    )


def take(array, axis, keep):
    """Select entries of `axis` by a bool mask, scale them by a vector, or mix them by a matrix.

    Args:
        array: The weights.
        axis: Their channel axis.
        keep: Bool `(old,)`, float `(old,)` or float `(old, new)`.
    """
    if keep.dtype == bool:
        return np.compress(keep, array, axis)
    moved = np.moveaxis(array, axis, -1)
    return np.moveaxis(moved * keep if keep.ndim == 1 else moved @ keep, -1, axis)


def weight_values(layer):
    """The weights of a layer in their order, float64."""
    return [np.asarray(ops.convert_to_numpy(weight), np.float64) for weight in layer.weights]


def weights_of(layer):
    """The weights of a layer by the last part of their paths, float64."""
    return {
        weight.path.split("/")[-1]: np.asarray(ops.convert_to_numpy(weight), np.float64)
        for weight in layer.weights
    }


def _with_bias(part, kernel, bias, in_axis, out_axis):
    """Narrowed kernel and bias; `None` for a bias that is zero and was not there."""
    added = bias is not None or part.shift is not None or part.constants is not None
    bias = np.zeros(kernel.shape[out_axis]) if bias is None else bias
    if part.constants is not None:
        gone = np.where(part.keep_in[0], 0.0, part.constants)
        spatial = kernel.sum(axis=tuple(range(kernel.ndim - 2)))
        bias = bias + gone @ spatial
    bias = take(bias, 0, part.keep_out)
    bias = bias if part.shift is None else bias + part.shift
    kernel = take(take(kernel, in_axis, part.keep_in[0]), out_axis, part.keep_out)
    return kernel, bias if added else None


@register_all(narrow, layers.Conv1D, layers.Conv2D, layers.Conv3D)
def _conv(layer, part):
    old = weights_of(layer)
    if layer.groups == 1:
        kernel, bias = _with_bias(part, old["kernel"], old.get("bias"), -2, -1)
        config = {"filters": kernel.shape[-1], "use_bias": bias is not None}
        return config, [kernel] if bias is None else [kernel, bias]
    # Channels go by their position in a group, the same in each; or with their group, where each
    # channel is one. An output may only be selected or scaled.
    inputs = part.keep_in[0]
    depthwise = is_depthwise(layer, len(inputs))
    first_group = inputs[: len(inputs) // layer.groups]
    kernel = old["kernel"]
    kernel, bias = _with_bias(
        dataclasses.replace(part, keep_in=(np.ones(kernel.shape[-2], bool),), constants=None),
        kernel,
        _grouped_bias(layer, part, old),
        -2,
        -1,
    )
    if not depthwise:
        kernel = take(kernel, -2, first_group)
    config = {"filters": kernel.shape[-1], "use_bias": bias is not None}
    if depthwise:
        config["groups"] = int(inputs.sum())
    return config, [kernel] if bias is None else [kernel, bias]


def _grouped_bias(layer, part, old):
    """The bias of a grouped convolution, with what removed inputs hold."""
    bias = old.get("bias")
    if part.constants is None:
        return bias
    gone = np.where(part.keep_in[0], 0.0, part.constants).reshape(layer.groups, 1, -1)
    spatial = old["kernel"].sum(axis=tuple(range(old["kernel"].ndim - 2)))
    blocks = spatial.T.reshape(layer.groups, -1, spatial.shape[0])
    added = (gone * blocks).sum(axis=-1).ravel()
    return added if bias is None else bias + added


@register_all(narrow, layers.SeparableConv1D, layers.SeparableConv2D)
def _separable(layer, part):
    old = weights_of(layer)
    depthwise, pointwise = old["depthwise_kernel"], old["pointwise_kernel"]
    rows = np.repeat(part.keep_in[0], layer.depth_multiplier)
    constants = part.constants
    if constants is not None:
        spatial = depthwise.sum(axis=tuple(range(depthwise.ndim - 2)))
        constants = (constants[:, None] * spatial).ravel()
    inner = dataclasses.replace(part, keep_in=(rows,), constants=constants)
    pointwise, bias = _with_bias(inner, pointwise, old.get("bias"), -2, -1)
    config = {"filters": pointwise.shape[-1], "use_bias": bias is not None}
    weights = [take(depthwise, -2, part.keep_in[0]), pointwise]
    return config, weights if bias is None else [*weights, bias]


@register_all(narrow, layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def _transposed(layer, part):
    """Their kernels have the outputs before the inputs."""
    old = weights_of(layer)
    kernel, bias = _with_bias(part, old["kernel"], old.get("bias"), -1, -2)
    config = {"filters": kernel.shape[-2], "use_bias": bias is not None}
    return config, [kernel] if bias is None else [kernel, bias]


@narrow.register
def _dense(layer: layers.Dense, part):
    old = weights_of(layer)
    kernel, bias = _with_bias(part, old["kernel"], old.get("bias"), 0, 1)
    config = {"units": kernel.shape[-1], "use_bias": bias is not None}
    return config, [kernel] if bias is None else [kernel, bias]


@narrow.register
def _einsum_dense(layer: layers.EinsumDense, part):
    axes = EinsumAxes(layer)
    old = weights_of(layer)
    kernel = np.moveaxis(old["kernel"], (axes.kernel_in, axes.kernel_out), (-2, -1))
    if axes.per_position:
        part = dataclasses.replace(part, constants=None)
    bias = old["bias"].ravel() if "bias" in old else None
    kernel, bias = _with_bias(part, kernel, bias, -2, -1)
    kernel = np.moveaxis(kernel, (-2, -1), (axes.kernel_in, axes.kernel_out))
    shape = layer.get_config()["output_shape"]
    shape = [shape] if isinstance(shape, int) else list(shape)
    shape[axes.output] = kernel.shape[axes.kernel_out]
    config = {"output_shape": tuple(shape), "bias_axes": None if bias is None else axes.letter}
    if bias is None:
        return config, [kernel]
    # Keras stores a bias with an axis of 1 for each letter of the outputs behind it.
    return config, [kernel, bias.reshape(-1, *[1] * (-1 - axes.output))]


@narrow.register
def _embedding(layer: layers.Embedding, part):
    """A row is one position's output: what is added to outputs is added to each row."""
    table = take(weights_of(layer)["embeddings"], 1, part.keep_out)
    table = table if part.shift is None else table + part.shift
    return {"output_dim": table.shape[1]}, [table]


@register_all(narrow, layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def _depthwise(layer, part):
    old = weights_of(layer)
    shape = (*old["kernel"].shape[:-2], -1, layer.depth_multiplier)
    # Output channel c * depth_multiplier + j comes from input channel c.
    flat = old["kernel"].reshape(*shape[:-2], -1)
    new = [take(flat, -1, part.keep_out).reshape(shape)]
    return {}, new + ([take(old["bias"], 0, part.keep_out)] if layer.use_bias else [])


@narrow.register
def _spectral(layer: layers.SpectralNormalization, part):
    """The layer inside, and the singular vector, which has one entry for each output."""
    config, inner = rule_of(narrow, layer.layer)(layer.layer, part)
    inner = iter(inner)
    vector = weights_of(layer)["vector_u"]
    if part.keep_out.dtype == bool:
        vector = take(vector, -1, part.keep_out)
    # The order of weights is that of the layer with the new settings.
    names = [weight.path.split("/")[-1] for weight in layer.weights]
    weights = [vector if name == "vector_u" else next(inner) for name in names]
    return config, [*weights, *inner]


# --- normalisations ----------------------------------------------------------------------------


@narrow.register
def _batch_norm(layer: layers.BatchNormalization, part):
    scale, offset, mean, variance = batch_norm_weights(layer)
    if part.keep_out.dtype == bool:
        old = [scale] * layer.scale + [offset] * layer.center + [mean, variance]
        return {}, [take(weight, 0, part.keep_out) for weight in old]
    scaled = [take(weight, 0, part.keep_out) for weight in (scale, offset)]
    return {"scale": True, "center": True}, [*scaled, mean, variance]


def batch_norm_weights(layer):
    """Scale, offset, mean and variance in float64; 1 and 0 where the layer has none."""
    old = weights_of(layer)
    mean, variance = old["moving_mean"], old["moving_variance"]
    return (
        old.get("gamma", np.ones_like(mean)),
        old.get("beta", np.zeros_like(mean)),
        mean,
        variance,
    )


@narrow.register
def _layer_norm(layer: layers.LayerNormalization, part):
    return {}, [take(weight, -1, part.keep_out) for weight in weight_values(layer)]


@narrow.register
def _group_norm(layer: layers.GroupNormalization, part):
    """Whole groups are kept or gone."""
    keep = part.keep_out
    if keep.dtype == bool:
        left = keep.reshape(layer.groups, -1).any(axis=1).sum() if layer.groups > 1 else 1
        return {"groups": int(left)}, [take(weight, 0, keep) for weight in weight_values(layer)]
    old = weights_of(layer)
    ones = np.ones(len(keep))
    scaled = [old.get("gamma", ones) * keep, old.get("beta", 0 * ones) * keep]
    return {"scale": True, "center": True}, scaled


if hasattr(layers, "RMSNormalization"):

    @narrow.register
    def _rms_norm(layer: layers.RMSNormalization, part):
        """The mean of squares is over fewer channels: with `s` of them left, times `s`."""
        share = part.keep_out.mean()
        scale = take(weights_of(layer)["scale"], -1, part.keep_out) * math.sqrt(1 / share)
        return {"epsilon": layer.epsilon / float(share)}, [scale]


@narrow.register
def _normalization(layer: layers.Normalization, part):
    config = layer.get_config()
    given = {
        name: take(np.asarray(config[name]), -1, part.keep_out).tolist()
        for name in ("mean", "variance")
        if config.get(name) is not None and np.ndim(config[name])
    }
    weights = [
        value if value.ndim == 0 else take(value, -1, part.keep_out)
        for value in weight_values(layer)
    ]
    return given, weights


@narrow.register
def _prelu(layer: layers.PReLU, part):
    alpha = weights_of(layer)["alpha"]
    axis = part.call.outputs[0].channel_axis - 1
    return {}, [alpha if alpha.shape[axis] == 1 else take(alpha, axis, part.keep_out)]


@narrow.register
def _rescaling(layer: layers.Rescaling, part):
    config = {"scale": layer.scale, "offset": layer.offset}
    return {
        name: take(np.asarray(value), 0, part.keep_out).tolist()
        for name, value in config.items()
        if np.ndim(value)
    }, []


if LayerScale is not None:

    @narrow.register(LayerScale)
    def _layer_scale(layer, part):
        gamma = take(weight_values(layer)[0], 0, part.keep_out)
        return {"projection_dim": len(gamma)}, [gamma]
