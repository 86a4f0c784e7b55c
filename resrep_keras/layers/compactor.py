"""Compactor: the layer in which ResRep forgets channels, while the rest of the model remembers."""

import typing

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import check_activation, check_bool, check_number
from resrep_keras.layers.around import warn_of_model_around


@keras.saving.register_keras_serializable("resrep_keras")
class Compactor(keras.layers.Layer):
    """A square channel-mixing matrix, identity at the start, whose columns can be forgotten.

    It stands behind a convolution or dense layer (and its batch normalisation), before the
    activation, and is folded into that layer by `resrep_keras.finalize`. With the kernel `K` and
    the keep mask `m` it applies

    ```
    m * K + (1 - m) * stop_gradient(K)
    ```

    whose value is `K`. The objective's gradient of a masked column is zero: the *gradient reset*.
    The penalty's is not, see `PenaltyOptimizer`.

    Args:
        diagonal: Whether to scale channels instead of mixing them: a vector of shape
            `(channels,)`, which also merges into a depthwise layer. Defaults to `False`.
        axis: Channel axis of the input. Defaults to `-1`.
        activation: Function applied to the result. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        kernel: `(channels, channels)` with one leading 1 for each spatial axis, or
            `(channels,)`. A channel is the *last* axis: `[..., j]` makes output channel `j`.
        keep_mask: Bool variable `(channels,)`, not trainable; `True` = kept.

    Example:

    >>> layer = resrep_keras.Compactor()
    >>> x = np.ones((2, 8, 8, 4), "float32")
    >>> float(abs(layer(x) - x).max())
    0.0

    Reference:
        Ding et al., "ResRep: Lossless CNN Pruning via Decoupling Remembering and Forgetting",
        ICCV 2021, sections 3.2 and 3.3.

    Note:
        The paper multiplies the gradient by the mask in the optimizer. Here the mask acts in the
        forward pass, so that it also holds on backends whose optimizers cannot read a layer.
    """

    def __init__(
        self,
        diagonal: bool = False,
        axis: int = -1,
        activation: typing.Any = None,
        **kwargs: typing.Any,
    ) -> None:
        super().__init__(**kwargs)
        self.diagonal = check_bool("diagonal", diagonal)
        self.axis = check_number("axis", axis, whole=True)
        self.activation = check_activation("activation", activation)
        self.supports_masking = True

    def build(self, input_shape):
        rank = len(input_shape)
        channels = input_shape[self.axis]
        if rank < 2 or channels is None:
            raise ValueError(
                f"Compactor '{self.name}' expects an input of rank 2 or more with a known size "
                f"along axis {self.axis}; got shape {tuple(input_shape)}."
            )
        if self.axis % rank == 0:
            raise ValueError(
                f"Compactor '{self.name}' expects channels along another axis than the batch; got "
                f"axis {self.axis} of shape {tuple(input_shape)}."
            )
        shape = (channels,) if self.diagonal else (1,) * (rank - 2) + (channels, channels)
        # In 16 bits, what a step takes from a column would be rounded away.
        half = self.variable_dtype in ("float16", "bfloat16")
        dtype = "float32" if half else self.variable_dtype
        self.kernel = self.add_weight(
            shape=shape, dtype=dtype, initializer=_identity, name="kernel"
        )
        self.kernel.is_compactor_kernel = True  # see below
        self.keep_mask = self.add_weight(
            shape=(channels,), dtype="bool", initializer="ones", trainable=False, name="keep_mask"
        )

    def masked_kernel(self):
        """The kernel, through which the objective's gradient reaches no masked column."""
        if self.trainable:
            words = f"Compactor '{self.name}'", "resrep_keras.PruningCallback(wrapped.method)"
            warn_of_model_around(*words)
        kernel = ops.cast(self.kernel, self.compute_dtype)
        kept = ops.cast(self.keep_mask, kernel.dtype)
        return kept * kernel + (1 - kept) * ops.stop_gradient(kernel)

    def call(self, inputs):
        kernel = self.masked_kernel()
        rank = len(inputs.shape)
        axis = self.axis % rank
        if self.diagonal:
            outputs = inputs * ops.reshape(kernel, (-1,) + (1,) * (rank - 1 - axis))
        else:
            # One matrix product: its gradients are faster than those of a 1x1 convolution.
            last = ops.moveaxis(inputs, axis, -1)
            rows = ops.reshape(last, (-1, kernel.shape[-1]))
            rows = ops.matmul(rows, ops.reshape(kernel, kernel.shape[-2:]))
            outputs = ops.moveaxis(ops.reshape(rows, ops.shape(last)), -1, axis)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        return input_shape

    def column_norms(self):
        """Euclidean norm of each column of the kernel, float64 `(channels,)`."""
        kernel = np.asarray(ops.convert_to_numpy(self.kernel), np.float64)
        return np.sqrt((kernel.reshape(-1, kernel.shape[-1]) ** 2).sum(axis=0))

    def get_config(self):
        return {
            **super().get_config(),
            "diagonal": self.diagonal,
            "axis": self.axis,
            "activation": keras.activations.serialize(self.activation),
        }


def _identity(shape, dtype=None):
    square = np.eye(shape[-1]) if len(shape) > 1 else np.ones(shape)
    return ops.convert_to_tensor(square.reshape(shape), dtype=dtype)


def is_compactor_kernel(variable):
    """Whether a variable is the kernel of a `Compactor`, which an optimizer treats by itself."""
    return getattr(variable, "is_compactor_kernel", False)
