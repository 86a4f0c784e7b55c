"""A model that trains compactors without an optimizer that prunes is told of it, once.

One that is made of the inputs and outputs of a wrapped model, say, or has it among its layers. On
JAX, where Keras runs the `call` of the model that trains by itself, a layer does not know of it:
there `finalize` tells that the target is not met.
"""

import functools
import warnings

import keras

from resrep_keras.keras_adapter import outermost_training, wrapped_optimizer


@functools.singledispatch
def prunes(optimizer):
    """Whether an optimizer, or one that it wraps, is that of a pruning method."""
    inner = wrapped_optimizer(optimizer)
    return inner is not None and prunes(inner)


def warn_of_model_around(what, callback):
    """Warn where the model whose call is running, in training, has another optimizer.

    Not in a training loop of one's own: it compiles nothing, and nobody knows its optimizer.

    Args:
        what: What is trained there, in words.
        callback: The callback to give to `fit`, in words.
    """
    outer = outermost_training()
    if not isinstance(outer, keras.Model) or not outer.compiled or prunes(outer.optimizer):
        return
    if vars(outer).setdefault("_told_of_compactors", False):
        return
    vars(outer)["_told_of_compactors"] = True
    warnings.warn(
        f"{what} is trained inside of model '{outer.name}', whose optimizer does not prune: "
        "nothing will be removed. Compile that model with the optimizer of the method, "
        "outer.compile(wrapped.method.optimizer(keras.optimizers.Adam(), wrapped), ...), and give "
        f"its fit the callback, outer.fit(..., callbacks=[{callback}]); or make it of the dense "
        "model, and wrap it as a whole.",
        stacklevel=3,
    )
