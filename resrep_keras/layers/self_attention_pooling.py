"""Self-attention pooling: a sequence of any length becomes a few weighted sums of its entries."""

import typing

import keras
from keras import ops

from resrep_keras.common.checks import check_bool, check_number

PADDED = -1e9  # a score whose exponential is zero beside any other


@keras.saving.register_keras_serializable("resrep_keras")
class SelfAttentionPooling(keras.layers.Layer):
    """Weighted sums of the entries of a sequence, whose weights the entries themselves decide.

    It takes the place of a global pooling behind a recurrent layer, say: the weights tell which
    entries a decision rests on. With a sequence `H` of shape `(length, channels)` it computes

    ```
    A = softmax(W2 tanh(W1 H^T))    # over the length
    M = A H
    ```

    Entries that a mask leaves out get the weight 0, and the others' weights add up to 1. Where it
    leaves out all entries of a sequence, weights and sums are 0.

    Args:
        units: Hidden units, rows of `W1`: an int of 1 or more.
        heads: How many weighted sums to make, rows of `W2`: an int of 1 or more. Defaults to 1.
        return_attention: Whether to return `A` as well. Defaults to `False`.
        penalty: Factor of `||A A^T - I||^2`, the sum of squares, which keeps heads from looking
            at the same entries; 0 or more. Its mean over the sequences that have an entry is added
            to the loss. It can be 0 only where `length` is at least `heads`. Defaults to 0.
        kernel_initializer: Initializer of `W1` and `W2`. Defaults to `"glorot_uniform"`.
        kernel_regularizer: Regularizer of both. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Sequences, `(batch, length, channels)`; the length may be unknown.
        mask: Bools `(batch, length)`, `False` = padded. By default that of the inputs, such as
            `keras.layers.Masking` makes, if any. Padded entries may hold any finite numbers.

    Returns:
        `M` of shape `(batch, heads, channels)`, and with `return_attention` a pair of it and `A` of
        shape `(batch, heads, length)`. In 16 bits, the softmax is still computed in float32.

    Attributes:
        hidden_kernel: `W1` transposed, `(channels, units)`.
        score_kernel: `W2` transposed, `(units, heads)`.

    Example:

    >>> layer = resrep_keras.SelfAttentionPooling(units=8, heads=2, return_attention=True)
    >>> pooled, attention = layer(np.ones((3, 5, 4), "float32"))
    >>> pooled.shape, attention.shape
    ((3, 2, 4), (3, 2, 5))

    Reference:
        Lin et al., "A Structured Self-attentive Sentence Embedding", ICLR 2017, equations 6 to 8.

    Note:
        As in the paper there are no biases. The paper adds the penalty as it is; here its mean over
        the batch is added, as Keras takes means of losses.
    """

    def __init__(
        self,
        units: int,
        heads: int = 1,
        return_attention: bool = False,
        penalty: float = 0.0,
        kernel_initializer: typing.Any = "glorot_uniform",
        kernel_regularizer: typing.Any = None,
        **kwargs: typing.Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = check_number("units", units, at_least=1, whole=True)
        self.heads = check_number("heads", heads, at_least=1, whole=True)
        self.return_attention = check_bool("return_attention", return_attention)
        self.penalty = check_number("penalty", penalty, at_least=0)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.supports_masking = True

    def build(self, input_shape):
        self._check(input_shape)
        self.hidden_kernel = self._kernel("hidden_kernel", (input_shape[-1], self.units))
        self.score_kernel = self._kernel("score_kernel", (self.units, self.heads))

    def _check(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                f"SelfAttentionPooling '{self.name}' expects sequences, (batch, length, channels), "
                f"with a known number of channels; got shape {tuple(input_shape)}."
            )

    def _kernel(self, name, shape):
        return self.add_weight(
            shape=shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name=name,
        )

    def call(self, inputs, mask=None):
        hidden = ops.tanh(ops.matmul(inputs, self.hidden_kernel))
        scores = ops.transpose(ops.matmul(hidden, self.score_kernel), (0, 2, 1))
        wide = keras.backend.result_type(scores.dtype, "float32")
        attention = masked_softmax(ops.cast(scores, wide), mask)
        if self.penalty:
            self.add_loss(self.penalty * redundancy(attention))
        attention = ops.cast(attention, inputs.dtype)
        pooled = ops.matmul(attention, inputs)
        return (pooled, attention) if self.return_attention else pooled

    def compute_mask(self, inputs, previous_mask=None):
        """None: no entry of the length is left."""
        return None

    def compute_output_shape(self, input_shape):
        self._check(input_shape)
        batch, length, channels = input_shape
        pooled = (batch, self.heads, channels)
        return (pooled, (batch, self.heads, length)) if self.return_attention else pooled

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "heads": self.heads,
            "return_attention": self.return_attention,
            "penalty": self.penalty,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def masked_softmax(scores, mask):
    """Softmax of `(batch, heads, length)` over the length; zeros where `mask` is not true."""
    if mask is None:
        return ops.softmax(scores, axis=-1)
    seen = ops.cast(mask, "bool")[:, None, :]
    # A sequence without an entry would get equal weights: the product makes them zeros.
    weights = ops.softmax(ops.where(seen, scores, PADDED), axis=-1)
    return weights * ops.cast(seen, scores.dtype)


def redundancy(attention):
    """Mean of `||A A^T - I||^2` over the sequences that have an entry."""
    gram = ops.matmul(attention, ops.transpose(attention, (0, 2, 1)))
    square = ops.square(gram - ops.eye(attention.shape[1], dtype=gram.dtype))
    has_entry = ops.cast(ops.sum(attention, axis=(1, 2)) > 0, gram.dtype)
    total = ops.sum(ops.sum(square, axis=(1, 2)) * has_entry)
    return total / ops.maximum(ops.sum(has_entry), 1.0)
