"""finalize: the slim model, and how far it is from the wrapped one."""

import keras

from resrep_keras.common.checks import check_bool
from resrep_keras.common.types import Data
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.certificate import handed_over
from resrep_keras.methods.channels.by_hand import CompactorsByHand
from resrep_keras.methods.pruning_log import keep_log, log_of
from resrep_keras.methods.wrapped import method_of
from resrep_keras.surgery.examples import Examples
from resrep_keras.training.compiling import compile_slim


def finalize(
    model: keras.Model, strict: bool = False, data: Data = None, keep_batch_norm: bool = False
) -> keras.Model:
    """Remove the dead channels of a trained wrapped model.

    A channel is dead where its compactor column is zero, or masked and below the method's
    threshold, however it came to be so. Compactors are folded into the layers before them.
    Constraints that the new weights would break, such as `unit_norm` where inputs go, are dropped
    with a warning, and listed in the certificate.

    Args:
        model: A model made by `wrap`; it is left as it is.
        strict: Whether to raise where this function warns of a run that went wrong or outputs that
            differ; constraints that are dropped are no reason. Defaults to `False`.
        data: Inputs to compare both models on beside random ones: arrays in the structure that the
            model is called with, the batch first, a pair of them and labels, which are not read,
            or a data set of batches, see `prune`. Where given, they decide. Masked channels that
            are not yet zero, which stay otherwise, then go, too, and the layers behind them are
            repaired as `prune` does it, on 16 examples or more. Defaults to none.
        keep_batch_norm: Whether a batch normalisation stays where a compactor behind it would
            take it along into the layer before it, for a slim model that is trained for long: it
            costs nothing on devices, whose converters fold it. Its outputs are the same; mean and
            variance are what the compactor makes of those before, of channels taken as independent,
            or that vary together as on `data`. Masked channels that are not yet zero stay then.
            Defaults to `False`.

    Returns:
        A plain Functional `keras.Model` with the layer names of the dense model, which can be
        trained, saved, and loaded without this package. It is compiled as `model` is, with a fresh
        optimizer of the same settings and learning rate, a schedule from its start; uncompiled
        where `model` is, or is trained by methods of its own class. Its attribute `certificate` is
        a `Certificate`: how far its outputs are from those of `model`.

    Raises:
        TypeError: Not a Keras model, or `data` that are neither arrays nor batches of them.
        ValueError: A model without compactors; `data` that do not fit its inputs; with `strict`, a
            target that is not met, a masked channel above the threshold, outputs that differ, or
            weights that are NaN.

    Example:

    >>> slim = resrep_keras.finalize(model, data=x_val[:100])
    >>> slim.certificate.data_max_relative < 1e-4
    True
    """
    check_model(model)
    strict = check_bool("strict", strict)
    keep_batch_norm = check_bool("keep_batch_norm", keep_batch_norm)
    data = None if data is None else Examples(model, data).x
    method = method_of(model) or CompactorsByHand()
    slim = handed_over(method.finalize(model, data, keep_batch_norm), strict)
    keep_log(slim, log_of(model))
    compile_slim(model, slim)
    return slim
