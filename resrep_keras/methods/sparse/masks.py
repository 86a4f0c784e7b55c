"""Masks of single weights: what is kept, dropped and grown, on tensors of any backend.

Weights are chosen by rank, ties by position, never by comparing with a value: numbers of weights
come out exactly.
"""

import numpy as np
from keras import ops

from resrep_keras.methods.sparse.densities import DISTRIBUTIONS, uniform

# What a mask begins from: random positions, or the largest weights.
STARTS = (*DISTRIBUTIONS, "magnitude")


def keep_largest(scores, number):
    """Mark the largest scores.

    Args:
        scores: Float32 `(size,)`, no NaN. What is negative is never marked.
        number: How many, an int32 scalar from 0 to the number of scores that are not negative.

    Returns:
        Bool `(size,)` with exactly `number` entries `True`; of equal scores, those in front.
    """
    keys, least = _threshold(scores, number)
    above = keys > least
    equal = keys == least
    room = number - count(above)
    return ops.logical_or(
        above, ops.logical_and(equal, ops.cumsum(ops.cast(equal, "int32")) <= room)
    )


def _threshold(scores, number):
    """What to compare, and its `number`-th largest; more than all of them for the 0-th."""
    # Not negative, floats are in the order of their bits, and one bit after the other can be found
    # by counting. XLA sorts a layer of a quarter of a million weights ten times slower.
    bits = ops.view(scores, "int32")

    def settle(place, found):
        one = ops.left_shift(ops.cast(1, "int32"), 30 - ops.cast(place, "int32"))
        candidate = ops.bitwise_or(found, one)
        return ops.where(count(bits >= candidate) >= number, candidate, found)

    return bits, ops.fori_loop(0, 31, settle, ops.cast(0, "int32"))


def count(mask):
    return ops.sum(ops.cast(mask, "int32"))


def size_of(values):
    """Absolute values as float32 `(size,)`; what is not a number counts as 0."""
    return ops.abs(ops.nan_to_num(ops.cast(ops.reshape(values, (-1,)), "float32")))


def among(mask, scores):
    """Scores, which are not negative, where the mask is set; less than all of them elsewhere."""
    return ops.where(mask, scores, -1.0)


def prune(masks, sizes, numbers):
    """Keep the largest active weights of each layer, or of all layers together.

    Args:
        masks: Bool `(size,)` each.
        sizes: Absolute values of the weights, float32 `(size,)` each.
        numbers: How many to keep, one for each layer or a single one for all of them. More than are
            active stay as they are.
    """
    if len(numbers) < len(masks):
        together = keep_largest(*_goal(ops.concatenate(masks), ops.concatenate(sizes), numbers[0]))
        return ops.split(together, np.cumsum([mask.shape[0] for mask in masks])[:-1].tolist())
    return [keep_largest(*_goal(*each)) for each in zip(masks, sizes, numbers)]


def _goal(mask, sizes, number):
    return among(mask, sizes), ops.minimum(number, count(mask))


def regenerate(mask, sizes, scores, rate):
    """Drop the smallest active weights of a layer, and grow as many where scores are largest.

    What was just dropped may grow again at once.

    Args:
        mask: Bool `(size,)`.
        sizes: Absolute values of the weights, float32 `(size,)`.
        scores: Not negative, float32 `(size,)`: absolute gradients, or random numbers.
        rate: Share of the active weights to drop, rounded up; a scalar in [0, 1).
    """
    active = count(mask)
    dropped = ops.cast(ops.ceil(rate * ops.cast(active, "float32")), "int32")
    stay = keep_largest(among(mask, sizes), active - dropped)
    grown = keep_largest(among(ops.logical_not(stay), scores), dropped)
    return ops.logical_or(stay, grown)


# --- at the start ---------------------------------------------------------------------------------


def numbers_at(shapes, sparsity, distribution, scope):
    """How many weights are kept: a list of one number for each layer, or of one for all."""
    if scope == "global":
        return [round(sum(int(np.prod(shape)) for shape in shapes) * (1 - sparsity))]
    densities = DISTRIBUTIONS.get(distribution, uniform)(shapes, 1 - sparsity)
    return [round(float(np.prod(shape)) * d) for shape, d in zip(shapes, densities)]


def first_masks(kernels, sparsity, distribution, scope, seed=0):
    """Masks to begin with, NumPy bool arrays of the kernels' shapes."""
    shapes = [tuple(kernel.shape) for kernel in kernels]
    if sparsity == 0:
        return [np.ones(shape, bool) for shape in shapes]
    if distribution == "magnitude":
        numbers = numbers_at(shapes, sparsity, distribution, scope)
        sizes = [size_of(ops.convert_to_tensor(kernel)) for kernel in kernels]
        found = prune([ops.ones(each.shape, "bool") for each in sizes], sizes, numbers)
        return [ops.convert_to_numpy(mask).reshape(s) for mask, s in zip(found, shapes)]
    masks = []
    for layer, (shape, density) in enumerate(
        zip(shapes, DISTRIBUTIONS[distribution](shapes, 1 - sparsity))
    ):
        mask = np.arange(np.prod(shape)) < round(float(np.prod(shape)) * density)
        masks.append(np.random.default_rng([seed, layer]).permutation(mask).reshape(shape))
    return masks
