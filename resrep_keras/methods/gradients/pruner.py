"""GradientPruner: hands activations on, and prunes the gradient that comes back."""

import weakref

import keras
from keras import ops

from resrep_keras.common.checks import check_choice, check_number
from resrep_keras.graph.record import is_transparent
from resrep_keras.methods.gradients.thresholds import lognormal_threshold, normal_threshold

THRESHOLDS = ("normal", "lognormal")
ROUNDINGS = ("stochastic", "deterministic")
DEPTHS = {"at_least": 0, "whole": True}  # what fifo_depth may be, and seed
SEEDS = {"at_least": 0, "whole": True}

# Steps over which the mean fraction of zeros runs, once so many were seen.
MEMORY = 100


@keras.saving.register_keras_serializable("resrep_keras")
class GradientPruner(keras.layers.Layer):
    """Identity, whose gradient loses its small entries in training.

    With the threshold `t`, each entry `g` of the gradient with `|g| < t` becomes

    ```
    sign(g) * t    with probability |g| / t
    0              otherwise
    ```

    and larger ones stay. The mean stays what it was, and with it the mean of every gradient that is
    computed from this one. Made and taken out again by `ActivationGradientPruning`.

    The threshold is predicted: it is the mean of those that the last `fifo_depth` gradients asked
    for, and nothing is pruned before there are so many. That saves special hardware a second pass;
    here it costs as much as `fifo_depth=0`, the threshold of the very gradient. A gradient that is
    zero everywhere, or not finite, is handed on as it is; one that is not finite is forgotten.

    Args:
        rate: In [0, 1); 0 prunes nothing. With `threshold="normal"`, the share of entries below
            the threshold, were they normally distributed; fewer of them become zero: 0.54 of all
            for a rate of 0.9. With `"lognormal"`, the share of zeros. Defaults to `0.9`.
        fifo_depth: How many thresholds are remembered, 0 or more. Defaults to `5`.
        threshold: What the entries are taken for: `"normal"` is the paper's, `"lognormal"` fits the
            absolute values that are not zero, which have heavy tails. Defaults to `"normal"`.
        rounding: `"stochastic"`; `"deterministic"` sets all entries below the threshold to zero,
            which shifts the mean: for comparison only. Defaults to `"stochastic"`.
        seed: An int, of the random numbers. Defaults to `None`, a seed drawn by Keras.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        fifo: `(fifo_depth,)` float32, thresholds, the oldest first; only where `fifo_depth > 0`.
        pushes: int32, how many gradients were measured.
        measured: int32, how many gradients were pruned.
        zeros: float32, running mean of the fraction of zeros in the pruned gradients.

    Raises:
        TypeError, ValueError: A setting of a wrong kind, or out of bounds.

    Example:

    >>> layer = GradientPruner(rate=0.9)
    >>> x = np.ones((2, 8, 8, 4), "float32")
    >>> float(abs(layer(x, training=True) - x).max())
    0.0

    Reference:
        Ye et al., "Accelerating CNN Training by Pruning Activation Gradients", ECCV 2020; the
        lognormal fit after Chmiel et al., "Neural gradients are near-lognormal", ICLR 2021.

    Note:
        Attributes are updated in the backward pass, which only TensorFlow allows. On other backends
        they stay zero, and the threshold is that of each gradient, as with `fifo_depth=0`. The
        replicas of a `tf.distribute` strategy draw the same random numbers for gradients of their
        own: each is unbiased, their noise is not independent.
    """

    def __init__(
        self,
        rate=0.9,
        fifo_depth=5,
        threshold="normal",
        rounding="stochastic",
        seed=None,
        **kwargs,
    ):
        # An identity casts nothing, whatever the policy.
        super().__init__(**{"autocast": False, **kwargs})
        self.rate = float(check_rate("rate", rate))
        self.fifo_depth = check_number("fifo_depth", fifo_depth, **DEPTHS)
        self.threshold = check_choice("threshold", threshold, THRESHOLDS)
        self.rounding = check_choice("rounding", rounding, ROUNDINGS)
        self.seed = None if seed is None else check_number("seed", seed, **SEEDS)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.supports_masking = True

    def build(self, input_shape):
        del input_shape

        def state(name, shape, dtype, aggregation):
            return self.add_weight(
                shape=shape,
                dtype=dtype,
                initializer="zeros",
                trainable=False,
                autocast=False,
                aggregation=aggregation,
                name=name,
            )

        self.fifo = (
            state("fifo", (self.fifo_depth,), "float32", "mean") if self.fifo_depth else None
        )
        self.pushes = state("pushes", (), "int32", "only_first_replica")
        self.measured = state("measured", (), "int32", "only_first_replica")
        self.zeros = state("zeros", (), "float32", "mean")

    def call(self, inputs, training=None):
        if not training or not self.rate:
            return inputs
        # Drawn in the forward pass, which may change variables on every backend.
        seed = self.seed_generator.next() if self.rounding == "stochastic" else None

        layer = weakref.ref(self)  # TensorFlow keeps each such function as long as the process

        def identity(x):
            def backward(*args, upstream=None):
                return layer()._backward(args[0] if upstream is None else upstream, seed)

            return x, backward

        return ops.custom_gradient(identity)(inputs)

    def _backward(self, gradient, seed):
        """The pruned gradient; on TensorFlow, the state is brought up to date."""
        size = ops.abs(ops.cast(gradient, "float32"))
        measure = lognormal_threshold if self.threshold == "lognormal" else normal_threshold
        fresh = measure(size, self.rate)
        finite = ops.isfinite(fresh)
        fresh = ops.where(finite, fresh, 0.0)
        keeps_state = keras.backend.backend() == "tensorflow"
        threshold = self._push(fresh, finite) if keeps_state else fresh
        pruned = prune(gradient, threshold, seed)
        if keeps_state:
            self._count(pruned, threshold)
        return pruned

    def _push(self, fresh, finite):
        """Remember a threshold; returns the one to prune with, 0 where it is too early."""
        predicted = fresh
        if self.fifo is not None:  # all is read before anything is written: a read may come late
            full = finite & (self.pushes >= self.fifo_depth)
            predicted = ops.where(full, ops.mean(self.fifo), 0.0)
            moved = ops.concatenate([self.fifo[1:], ops.reshape(fresh, (1,))])
            self.fifo.assign(ops.where(finite, moved, self.fifo))
        self.pushes.assign(self.pushes + ops.cast(finite, "int32"))
        return predicted

    def _count(self, pruned, threshold):
        active = ops.cast(threshold > 0, "int32")
        measured = self.measured + active
        weight = ops.cast(active, "float32") / ops.cast(ops.clip(measured, 1, MEMORY), "float32")
        fraction = ops.mean(ops.cast(ops.equal(pruned, 0), "float32"))
        self.zeros.assign(self.zeros + weight * (fraction - self.zeros))
        self.measured.assign(measured)

    def compute_output_spec(self, inputs, training=None):
        del training
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "rate": self.rate,
            "fifo_depth": self.fifo_depth,
            "threshold": self.threshold,
            "rounding": self.rounding,
            "seed": self.seed,
        }


@is_transparent.register
def _pruner(layer: GradientPruner):
    return True


def check_rate(name, rate):
    return check_number(name, rate, at_least=0, below=1)


# --- the gradient ---------------------------------------------------------------------------------


class _Drawn(keras.random.SeedGenerator):
    """A seed that was drawn before."""

    def __init__(self, seed):
        self._seed = seed

    def next(self, ordered=True):
        del ordered
        return self._seed


def prune(gradient, threshold, seed=None):
    """Round the entries below a threshold to it or to zero, so that the mean stays.

    Args:
        gradient: Tensor of any shape.
        threshold: Scalar, float32; 0 changes nothing.
        seed: Tensor, what a `keras.random.SeedGenerator` has drawn. Defaults to `None`: entries
            below the threshold become zero, which shifts the mean.

    Returns:
        A tensor like `gradient`.
    """
    exact = ops.cast(gradient, "float32")
    size = ops.abs(exact)
    if seed is None:
        rounded = ops.zeros_like(exact)
    else:
        chance = keras.random.uniform(ops.shape(exact), dtype="float32", seed=_Drawn(seed))
        rounded = ops.where(size > threshold * chance, ops.sign(exact) * threshold, 0.0)
    return ops.where(size < threshold, ops.cast(rounded, gradient.dtype), gradient)
