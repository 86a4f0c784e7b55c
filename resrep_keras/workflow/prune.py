"""prune: the slim model at once, without training."""

import keras

from resrep_keras.common.checks import check_instance
from resrep_keras.common.types import Data
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.channels.magnitude import MagnitudePruning
from resrep_keras.methods.channels.one_shot import OneShot
from resrep_keras.methods.channels.taylor import TaylorPruning
from resrep_keras.training.compiling import compile_slim


def prune(
    model: keras.Model,
    method: OneShot | None = None,
    data: Data = None,
    strict: bool = False,
    repair: bool = True,
) -> keras.Model:
    """Return the slim model at once, without training.

    For whoever cannot train at all, and as the start of a short fine-tuning. A thousand examples
    make most of the difference: without them what is left is the mere removal.

    Args:
        model: A built Keras model; it is left as it is.
        method: A method that chooses channels at one moment, such as `MagnitudePruning(...)`, whose
            scores stay what its name says; `TaylorPruning(...)` scores channels on `data`. Defaults
            to `TaylorPruning()` with `data`, `MagnitudePruning()` without: half of the MACs go.
        data: Inputs, or a pair `(inputs, labels)`, arrays with the examples first; or a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or another iterable of batches as `fit`
            takes them, shuffled, of which 2,048 examples are read, or as many as take half a
            gigabyte. Labels need a model that is compiled with a loss; sample weights do not count.
            The layers behind what is removed are fitted to what
            they made before, and batch normalisations take their statistics again. Defaults to
            none.
        strict: Whether to raise where this function warns. Defaults to `False`.
        repair: Whether to repair the slim model on `data`. Defaults to `True`.

    Returns:
        A Functional model, compiled as `model` is; uncompiled where `model` is, or is trained by
        methods of its own class. Its attribute `certificate` is a `Certificate`: how far its
        outputs, before any repair, are from those of `model` with the channels that go at zero.

    Raises:
        TypeError: Not a Keras model, a method of another kind, or `data` that are neither arrays
            nor batches of them.
        UnreachableTarget: The target is out of reach.
        ValueError: Nothing can be pruned; `data` that do not fit the model, are too few or not
            finite, or have labels that no loss is there for; with `strict`, outputs that differ.

    Example:

    >>> slim = resrep_keras.prune(dense, resrep_keras.TaylorPruning(0.3), data=(x[:1500], y[:1500]))
    """
    check_model(model)
    if method is None:
        method = MagnitudePruning() if data is None else TaylorPruning()
    words = "a method that chooses channels at one moment, such as MagnitudePruning(0.5)"
    check_instance("method", method, OneShot, words)
    slim = method.prune(model, strict=strict, data=data, repair=repair)
    compile_slim(model, slim)
    return slim
