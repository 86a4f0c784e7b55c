"""Gradients drawn at random, what is pruned of them, and how many zeros there must be."""

import math

import keras
import numpy as np
from keras import ops

from resrep_keras.methods.gradients.pruner import prune


def normal(size=10**6, seed=0, scale=1.0):
    values = np.random.default_rng(seed).normal(0, scale, size)
    return values.astype("float32")


def pruned(gradient, threshold, seed=0):
    state = None if seed is None else keras.random.SeedGenerator(seed).next()
    return ops.convert_to_numpy(prune(ops.convert_to_tensor(gradient), threshold, state))


def threshold_of(function, gradient, rate):
    return float(function(ops.convert_to_tensor(np.abs(gradient)), rate))


def below(rate):
    """`c` with ``P(|x| < c) = rate``, by halving, from the error function alone."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2)) < rate else (low, middle)
    return low


def normal_zeros(rate):
    """The share of zeros: entries below the threshold `c`, less those that are rounded up to it."""
    c = below(rate)
    density = [math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) for x in (0, c)]
    return rate - 2 / c * (density[0] - density[1])
