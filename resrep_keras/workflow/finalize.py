"""finalize: the slim model, and how far it is from the wrapped one."""

import dataclasses
import warnings

import keras
import numpy as np

from resrep_keras.costs.macs import count_macs
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.resrep import ResRep
from resrep_keras.surgery.fold import fold
from resrep_keras.surgery.forward import example_inputs, explain_difference, play
from resrep_keras.surgery.remove import narrow_dead
from resrep_keras.tflite.convert import to_tflite

# Largest relative difference that passes as rounding, where layers compute in 32 bits or in 16.
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


@dataclasses.dataclass(frozen=True)
class Certificate:
    """How far the slim model's outputs are from the wrapped model's, on the same inputs.

    Args:
        max_absolute: Largest absolute difference of any output value, on random inputs.
        max_relative: The same as a share of the largest absolute output value.
        macs_dense: MACs before.
        macs_slim: MACs after.
        macs_left: Their ratio.
        data_max_absolute, data_max_relative: The differences on the data given to `finalize`, or
            `None`.
        limits: Triples `(quantity, value of the slim model, largest value allowed)`. The bytes of the
            file are those of the converted model, a latency is predicted.
        inexact: Pairs `(layer name, reason)` of the groups that lost channels though that changes
            outputs; empty unless the method was made with `exact=False`.
    """

    max_absolute: float
    max_relative: float
    macs_dense: int
    macs_slim: int
    macs_left: float
    data_max_absolute: float | None = None
    data_max_relative: float | None = None
    limits: tuple = ()
    inexact: tuple = ()


def finalize(model, strict=False, data=None):
    """Remove the dead channels of a trained wrapped model.

    A channel is dead where its compactor column is zero, or masked and below the method's
    threshold, however it came to be so. Compactors are folded into the layers before them.

    Args:
        model: A model made by `wrap`; it is left as it is.
        strict: Whether to raise where this function warns. Defaults to `False`.
        data: Inputs to compare both models on beside random ones: arrays in the structure that the
            model is called with, the batch first. Defaults to none.

    Returns:
        A plain Functional `keras.Model` with the layer names of the dense model, which can be
        compiled, trained, saved, and loaded without this package. Its attribute `certificate` is a
        `Certificate`: how far its outputs are from those of `model`.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without compactors; with `strict`, a target that is not met, a masked
            channel above the threshold, or outputs that differ.

    Example:

    >>> slim = resrep_keras.finalize(model, data=x_val[:100])
    >>> slim.certificate.data_max_relative < 1e-4
    True
    """
    check_model(model)
    method = getattr(model, "method", None)
    if method is not None and not method.removes_channels:
        slim = method.strip(model)
        slim.certificate = certify(model, slim, data)
        differing = _differing(slim.certificate, _tolerance(model))
        _tell([*method.problems(model), *differing], strict)
        return slim
    exact = getattr(method, "exact", True)
    channel_state = ChannelState(model, getattr(method, "input_shape", None), exact)
    if channel_state.baseline is None and method is not None:
        channel_state.baseline = method.baseline(model, channel_state)
    dead = channel_state.dead(method.threshold if method else ResRep.threshold)
    keep = channel_state.graph.keep_by_producer(~dead)
    slim = narrow_dead(fold(model, channel_state.dead_columns(dead)), keep, exact)
    limits = [] if method is None else method.limits(channel_state)
    values = [_value(limit, slim, ~dead) for limit in limits]
    certificate = dataclasses.replace(
        _certify_removal(model, slim, channel_state, dead, data),
        limits=tuple((limit.name, value, limit.at_most) for limit, value in zip(limits, values)),
    )
    tolerance = float("inf") if certificate.inexact else _tolerance(model)
    problems = [
        *_above_threshold(channel_state, dead),
        *_missed(limits, values),
        *_differing(certificate, tolerance),
    ]
    _tell(problems, strict)
    slim.certificate = certificate
    return slim


def _tell(problems, strict):
    for problem in problems:
        if strict:
            raise ValueError(problem)
        warnings.warn(problem, stacklevel=3)


def _tolerance(model):
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model.layers)
    return HALF_TOLERANCE if half else TOLERANCE


def certify(model, slim, data=None, input_shape=None, macs=None):
    """The `Certificate` of two models that should compute the same.

    Args:
        model, slim: The models.
        data: Inputs to compare them on, beside random ones.
        input_shape: Shape of one random input.
        macs: MACs `(before, after)`; counted where not given.
    """
    absolute, relative = _differences(model, slim, example_inputs(model, input_shape=input_shape))
    on_data = (None, None) if data is None else _differences(model, slim, data)
    dense, left = (count_macs(model), count_macs(slim)) if macs is None else macs
    return Certificate(
        max_absolute=absolute,
        max_relative=relative,
        macs_dense=dense,
        macs_slim=left,
        macs_left=left / max(1, dense),
        data_max_absolute=on_data[0],
        data_max_relative=on_data[1],
    )


def _certify_removal(model, slim, channel_state, dead, data):
    shape = None if channel_state.input_shape is None else tuple(channel_state.input_shape)
    cost = channel_state.cost()
    dense = cost() if channel_state.baseline is None else channel_state.baseline["dense"]["macs"]
    return dataclasses.replace(
        certify(model, slim, data, shape, (dense, cost(~dead))),
        inexact=tuple(
            (group.name, group.inexact)
            for group in channel_state.groups
            if group.inexact and dead[group.channels].any()
        ),
    )


def _differences(model, slim, inputs):
    """Largest absolute difference, and largest as a share of the output it belongs to."""
    pairs = list(zip(*(keras.tree.flatten(play(m, inputs)) for m in (model, slim))))
    absolute = [float(np.abs(a - b).max()) for a, b in pairs]
    scale = [max(float(np.abs(a).max()), 1e-12) for a, _ in pairs]
    return max(absolute), max(d / s for d, s in zip(absolute, scale))


def _value(limit, slim, kept):
    """What the slim model has of a limited quantity; the file is converted, not predicted."""
    return len(to_tflite(slim)) if limit.name == "file_bytes" else limit.cost(kept)


def _above_threshold(channel_state, dead):
    norms = channel_state.norms()
    masked = ~channel_state.kept() & ~dead & (norms > 0)  # a layer keeps one channel, be it zero
    if masked.any():
        worst = norms[masked].max()
        yield (
            f"{int(masked.sum())} masked channels are still above the threshold (largest norm "
            f"{worst:.2g}) and were kept. Train to the end of the planned run before finalize()."
        )


def _missed(limits, values):
    missed = []
    for limit, value in zip(limits, values):
        if value <= limit.at_most:
            continue
        share = 1 - limit.at_most / limit.dense
        missed.append(
            f"target_reduction={share:.4g} of {limit.name}, but {1 - value / limit.dense:.4f} of the "
            f"{limit.cost.unit} are removed"
            if limit.relative
            else f"at_most['{limit.name}']={limit.at_most:,}, but the slim model has {value:,.6g}"
        )
    if missed:
        yield (
            f"The target is not met: {'; '.join(missed)}. Train for the whole run that "
            "fit() was started with; early stopping and the restoring of best weights bring the "
            "unpruned model back."
        )


def _differing(certificate, tolerance):
    for difference in (certificate.max_relative, certificate.data_max_relative or 0.0):
        if not difference <= tolerance:  # NaN fails, too
            yield (
                f"Slim and wrapped model differ by {difference:.2g} of the largest output."
                f"{explain_difference(difference)}"
            )
