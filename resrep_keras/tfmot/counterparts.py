"""counterpart: what an operation of Keras 3 is in tf_keras, an open question.

A rule for a layer of one's own is registered from outside. It returns a layer of tf_keras, which is
given the weights of the original in their order:

    @resrep_keras.tfmot.counterpart.register(MyLayer)
    def _(layer, recorded):
        return MyLayerOfKeras2(layer.units, name=recorded.name)

The rules for Keras's own layers are in `layers`, those for `keras.ops` in `operations`.
"""

import dataclasses
import functools
from collections.abc import Callable


class NotTaken(ValueError):
    """What tf_keras has no counterpart for, in words that go on from "has"."""


@dataclasses.dataclass(frozen=True)
class Followed:
    """A layer of tf_keras, or `None`, and a function of its output that makes further layers."""

    layer: object
    function: Callable

    def __call__(self, *args, **kwargs):
        if self.layer is None:
            return self.function(*args, **kwargs)
        return self.function(self.layer(*args, **kwargs))


@functools.singledispatch
def counterpart(operation, recorded):
    """What is called in tf_keras in the place of an operation.

    Args:
        operation: A layer, or an operation of `keras.ops`.
        recorded: The `RecordedCall`, by whose name what is made is called.

    Returns:
        A layer of tf_keras, a `Followed`, or a function of tensors of tf_keras.

    Raises:
        NotTaken: There is none.
    """
    raise NotTaken("no counterpart in tf_keras")
