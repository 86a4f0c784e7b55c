"""Numbers that look random: integer hashes, equal on every backend, compiled or not."""

import numpy as np
from keras import ops


def random_scores(size, step, seed=0):
    """A hash of position, step and seed.

    Args:
        size: How many.
        step: Training step or the like, an integer scalar.
        seed: Int, or an integer scalar of a random generator.

    Returns:
        Float32 `(size,)`, whole numbers from 0 to 2 ** 24 - 1.
    """
    key = _hash(ops.cast(step, "uint32") + _word(seed))
    positions = ops.convert_to_tensor(np.arange(size, dtype="uint32"))
    return ops.cast(ops.right_shift(_hash(ops.bitwise_xor(positions, key)), _word(8)), "float32")


def drawn_scores(size, generator):
    """The next numbers of a `keras.random.SeedGenerator`; see `random_scores`."""
    seed, count = ops.unstack(generator.next(), num=2)
    return random_scores(size, count, _hash(ops.cast(seed, "uint32")))


def _hash(x):
    """The finalizer `lowbias32` of Chris Wellons, which spreads each bit over all of them."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ops.bitwise_xor(x, ops.right_shift(x, _word(shift))) * _word(factor)
    return ops.bitwise_xor(x, ops.right_shift(x, _word(16)))


def _word(number):
    if ops.is_tensor(number):
        return ops.cast(number, "uint32")
    return ops.convert_to_tensor(np.array(number % 2**32, "uint32"))
