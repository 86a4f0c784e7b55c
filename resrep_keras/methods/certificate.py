"""The certificate of a slim model: how far it is from the wrapped one; what `finalize` tells."""

import dataclasses

import keras
import numpy as np

from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.forward import explain_difference, play, random_inputs

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
        limits: Triples `(quantity, value of the slim model, largest value allowed)`. The bytes of
            the file are those of the converted model, a latency is predicted.
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


@dataclasses.dataclass(frozen=True)
class Finalized:
    """What a method makes of a trained model.

    Args:
        slim: A plain Keras model.
        certificate: Its `Certificate`.
        problems: What the user is told, in words: a target that is not met, outputs that differ.
    """

    slim: keras.Model
    certificate: Certificate
    problems: tuple = ()


def certify(before, after, macs, data=None, input_shape=None):
    """The `Certificate` of two models that should compute the same.

    Args:
        before, after: The `Recording`s of the wrapped and the slim model.
        macs: Their MACs.
        data: Inputs to compare them on, beside random ones.
        input_shape: Shape of one random input.
    """
    inputs = random_inputs(before.inputs, input_shape=input_shape)
    absolute, relative = _differences(before, after, inputs)
    on_data = (None, None) if data is None else _differences(before, after, data)
    dense, left = macs
    return Certificate(
        max_absolute=absolute,
        max_relative=relative,
        macs_dense=dense,
        macs_slim=left,
        macs_left=left / max(1, dense),
        data_max_absolute=on_data[0],
        data_max_relative=on_data[1],
    )


def _differences(before, after, inputs):
    """Largest absolute difference, and largest as a share of the output it belongs to."""
    pairs = list(zip(*(keras.tree.flatten(play(r, inputs)) for r in (before, after))))
    absolute = [float(np.abs(a - b).max()) for a, b in pairs]
    scale = [max(float(np.abs(a).max()), 1e-12) for a, _ in pairs]
    return max(absolute), max(d / s for d, s in zip(absolute, scale))


def tolerance_of(model):
    """Largest relative difference of its outputs that passes as rounding."""
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model.layers)
    return HALF_TOLERANCE if half else TOLERANCE


def differing(certificate, tolerance):
    """Yields, in words, each difference that is above the tolerance."""
    for difference in (certificate.max_relative, certificate.data_max_relative or 0.0):
        if not difference <= tolerance:  # NaN fails, too
            yield (
                f"Slim and wrapped model differ by {difference:.2g} of the largest output."
                f"{explain_difference(difference)}"
            )


def compare(model, graph, slim, data=None, problems=()):
    """The `Finalized` of a slim model that should compute what the wrapped one does.

    Args:
        model: The wrapped model.
        graph: Its `ChannelGraph`.
        slim: The slim model.
        data: Inputs to compare them on, beside random ones.
        problems: What there is to tell beside outputs that differ.
    """
    after = trace(slim)
    macs = MacCost(graph)(), MacCost(after)()
    certificate = certify(graph.recording, after.recording, macs, data)
    told = (*problems, *differing(certificate, tolerance_of(model)))
    return Finalized(slim, certificate, told)
