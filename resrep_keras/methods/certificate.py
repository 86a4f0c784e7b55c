"""The certificate of a slim model: how far it is from the wrapped one; what `finalize` tells."""

import dataclasses
import warnings

import keras
import numpy as np

from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import trace
from resrep_keras.methods.divergence import diverged, not_finite
from resrep_keras.surgery.constraints import dropped_constraints, told_of_dropped
from resrep_keras.surgery.forward import explain_difference, fitting_inputs
from resrep_keras.surgery.heads import differences

# Largest relative difference that passes as rounding, where layers compute in 32 bits or in 16.
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2


@dataclasses.dataclass(frozen=True)
class Certificate:
    """How far the slim model's outputs are from the wrapped model's, on the same inputs.

    Args:
        max_absolute: Largest absolute difference of any value on random inputs: of the outputs, and
            of what stands in front of their heads, such as the logits before a softmax. What is
            not-a-number in both is no difference; where an output is nothing else, this is
            not-a-number: such models are to be compared on data.
        max_relative: The same as a share of the largest absolute value of that tensor.
        macs_dense: MACs before.
        macs_slim: MACs after.
        macs_left: Their ratio.
        data_max_absolute, data_max_relative: The differences on the data given to `finalize`, or
            `None`. They decide where they are there.
        limits: Triples `(quantity, value of the slim model, largest value allowed)`. The bytes of
            the file are those of the converted model, a latency is predicted.
        inexact: Pairs `(layer name, reason)` of the groups that lost channels though that changes
            outputs; empty unless the method was made with `exact=False`.
        dropped: Pairs `(layer name, setting)` of the constraints that new weights would break, such
            as `("conv", "kernel_constraint")`; the slim model is without them.
        repaired: Names of the layers that were changed on data *after* both models were compared:
            fitted anew, or given other statistics. The differences are those of the removal alone.
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
    dropped: tuple = ()
    repaired: tuple = ()

    def __str__(self):
        differ = f"Outputs differ by {self.max_relative:.2g} of the largest on random inputs"
        if self.data_max_relative is not None:
            differ += f", by {self.data_max_relative:.2g} on data"
        told = [
            f"{self.macs_slim:,} of {self.macs_dense:,} MACs are left ({self.macs_left:.1%}).",
            f"{differ}.",
            *(
                f"{name}: {_amount(value)} of at most {_amount(most)}."
                for name, value, most in self.limits
            ),
        ]
        if self.inexact:
            layers = ", ".join(name for name, _ in self.inexact)
            told.append(f"Outputs change where channels of {layers} went.")
        if self.dropped:
            settings = ", ".join(f"{setting} of {name}" for name, setting in self.dropped)
            told.append(f"Dropped, since the new weights would break them: {settings}.")
        if self.repaired:
            told.append(f"Then changed on data: {', '.join(self.repaired)}.")
        return "\n".join(told)


def _amount(value):
    """A number of MACs or bytes whole; of seconds to six digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.6g}"


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


def certify(before, after, macs, data=None, input_shape=None, around=None):
    """The `Certificate` of two models that should compute the same.

    Args:
        before, after: The `Recording`s of the wrapped and the slim model.
        macs: Their MACs.
        data: Inputs to compare them on, beside random ones.
        input_shape: Shape of one random input.
        around: What stands for the calls of the first one, see `surgery.forward.play`.
    """
    inputs = fitting_inputs(before, input_shape=input_shape)
    on_random = differences(before, after, inputs, around)
    on_data = None if data is None else differences(before, after, data, around)
    dense, left = macs
    return Certificate(
        max_absolute=on_random.absolute,
        max_relative=on_random.relative,
        macs_dense=dense,
        macs_slim=left,
        macs_left=left / max(1, dense),
        data_max_absolute=None if on_data is None else on_data.absolute,
        data_max_relative=None if on_data is None else on_data.relative,
        dropped=dropped_constraints(before, after),
    )


def tolerance_of(model, certificate=None):
    """Largest relative difference of its outputs that passes as rounding; any where it is known."""
    if certificate is not None and certificate.inexact:
        return float("inf")
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model.layers)
    return HALF_TOLERANCE if half else TOLERANCE


def differing(certificate, tolerance, models="Slim and wrapped model"):
    """Yields, in words, what is above the tolerance; on data, where there are any."""
    given = certificate.data_max_relative is not None
    difference = certificate.data_max_relative if given else certificate.max_relative
    inputs = "the data given" if given else "random inputs"
    if np.isnan(difference):
        yield (
            f"{models} are not comparable on {inputs}: an output of both is not a number there. "
            + (
                "Training has diverged, or the data are out of the range that the model takes."
                if given
                else "Give data that the model is made for; where it is not a number on these "
                "either, training has diverged."
            )
        )
    elif not difference <= tolerance:
        yield (
            f"{models} differ by {difference:.2g} of the largest value of an output, or of what "
            f"stands in front of it, on {inputs}.{explain_difference(difference)}"
        )


def handed_over(done, strict, stacklevel=3):
    """The slim model of a `Finalized`, with its certificate; problems are told, and what is lost.

    Raises:
        ValueError: With `strict`, the first problem.
    """
    for problem in (*_diverged(done.slim), *done.problems):
        if strict:
            raise ValueError(problem)
        warnings.warn(problem, stacklevel=stacklevel)
    dropped = told_of_dropped(done.certificate.dropped)
    if dropped is not None:  # no fault of the run, and nothing to raise for
        warnings.warn(dropped, stacklevel=stacklevel)
    done.slim.certificate = done.certificate
    return done.slim


def _diverged(slim):
    names = not_finite(slim.trainable_variables, slim.non_trainable_variables)
    if names:
        yield diverged(names)


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
