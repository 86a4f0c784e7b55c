"""The layer with fewer channels: one rule per layer that holds channels in weights or settings.

`narrow` is an open function. A rule reads a `Part` and returns the changed entries of the layer's
configuration and its new weights. It selects with `take`, which accepts a keep mask or a matrix:
the same rule that removes channels also folds a compactor into the layer.
"""

import dataclasses
import functools

import numpy as np
from keras import layers, ops


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
        output_shape: Shape of the output with fewer channels.
        axis: Channel axis of the output.
    """

    keep_in: tuple
    keep_out: np.ndarray
    constants: np.ndarray | None = None
    shift: np.ndarray | None = None
    output_shape: tuple = ()
    axis: int = -1


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


@narrow.register(layers.Conv1D)
@narrow.register(layers.Conv2D)
@narrow.register(layers.Conv3D)
def _conv(layer, part):
    old = weights_of(layer)
    kernel, bias = _with_bias(part, old["kernel"], old.get("bias"), -2, -1)
    config = {"filters": kernel.shape[-1], "use_bias": bias is not None}
    return config, [kernel] if bias is None else [kernel, bias]


@narrow.register
def _dense(layer: layers.Dense, part):
    old = weights_of(layer)
    kernel, bias = _with_bias(part, old["kernel"], old.get("bias"), 0, 1)
    config = {"units": kernel.shape[-1], "use_bias": bias is not None}
    return config, [kernel] if bias is None else [kernel, bias]


@narrow.register
def _depthwise(layer: layers.DepthwiseConv2D, part):
    old = weights_of(layer)
    shape = (*old["kernel"].shape[:2], -1, layer.depth_multiplier)
    # Output channel c * depth_multiplier + j comes from input channel c.
    flat = old["kernel"].reshape(*shape[:2], -1)
    new = [take(flat, -1, part.keep_out).reshape(shape)]
    return {}, new + ([take(old["bias"], 0, part.keep_out)] if layer.use_bias else [])


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
def _prelu(layer: layers.PReLU, part):
    alpha = weights_of(layer)["alpha"]
    axis = part.axis - 1
    return {}, [alpha if alpha.shape[axis] == 1 else take(alpha, axis, part.keep_out)]


@narrow.register
def _reshape(layer: layers.Reshape, part):
    return {"target_shape": tuple(part.output_shape[1:])}, []
