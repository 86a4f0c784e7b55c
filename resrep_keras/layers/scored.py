"""ScoredCompactor: a compactor that also holds what AOFP knows of its channels."""

import keras
import numpy as np
from keras import ops

from resrep_keras.common.hashed import drawn_scores
from resrep_keras.layers.compactor import Compactor

# What `ScoredCompactor.begun` holds before the first half-round, and after the last.
WAITING, DONE = -1, -2


@keras.saving.register_keras_serializable("resrep_keras")
class ScoredCompactor(Compactor):
    """A compactor with the state of a binary search for its least important channels.

    All of it are variables, so that a saved model goes on where it was.

    Attributes:
        candidates: Bool `(channels,)`, the search set.
        damage: `(channels,)`, the sum of the damages measured without the channel.
        draws: `(channels,)`, how many these were.
        scores: `(channels,)`, what each channel does by itself, by the rounds that began with all
            channels, the last of which counts half; infinite before.
        begun: Step at which the current half-round began, or `WAITING`, or `DONE`.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        super().build(input_shape)
        channels = (input_shape[self.axis],)

        def state(name, shape, dtype, initializer, aggregation="only_first_replica"):
            return self.add_weight(
                shape=shape,
                dtype=dtype,
                initializer=initializer,
                trainable=False,
                aggregation=aggregation,
                name=name,
            )

        self.candidates = state("candidates", channels, "bool", "ones")
        # Each replica ablates a batch of its own.
        self.damage = state("damage", channels, "float32", "zeros", "sum")
        self.draws = state("draws", channels, "float32", "zeros", "sum")
        self.scores = state("scores", channels, "float32", _infinite)
        self.begun = state("begun", (), "int32", _waiting)

    def draw(self):
        """Half of the search set at random: 1 for the channels that are ablated, else 0."""
        candidates = ops.convert_to_tensor(self.candidates)
        # The same channels on every backend, with XLA and without.
        noise = drawn_scores(candidates.shape[0], self.seed_generator)
        noise = ops.where(candidates, noise, float("inf"))
        number = ops.sum(ops.cast(candidates, "int32")) // 2
        return ops.cast(ops.argsort(ops.argsort(noise)) < number, "float32")

    def searching(self):
        """Whether a half-round is under way, as a tensor."""
        return ops.convert_to_tensor(self.begun) >= 0

    def note(self, drawn, damage):
        """Add one damage, a scalar, to the channels that were drawn.

        One that overflowed, in a step that a loss scale leaves out, tells nothing.
        """
        known = ops.isfinite(damage)
        drawn = drawn * ops.cast(known, drawn.dtype)
        damage = ops.where(known, damage, ops.zeros_like(damage))
        self.damage.assign_add(drawn * damage)
        self.draws.assign_add(drawn)

    def means(self):
        """Mean damage of each channel, float64 `(channels,)`; infinite where it was never drawn."""
        damage, draws = (
            np.asarray(ops.convert_to_numpy(v), np.float64) for v in (self.damage, self.draws)
        )
        return np.divide(damage, draws, out=np.full_like(damage, np.inf), where=draws > 0)

    def begin(self, candidates, step):
        """Begin a half-round with another search set."""
        self.candidates.assign(candidates)
        for variable in (self.damage, self.draws):
            variable.assign(np.zeros(variable.shape, "float32"))
        self.begun.assign(step)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def _infinite(shape, dtype=None):
    return ops.full(shape, float("inf"), dtype=dtype)


def _waiting(shape, dtype=None):
    return ops.full(shape, WAITING, dtype=dtype)
