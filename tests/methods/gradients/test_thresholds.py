"""Thresholds of gradients, against the error function and sums over fine grids."""

import math

import numpy as np
import pytest

from resrep_keras.methods.gradients.thresholds import (
    lognormal_threshold,
    lognormal_zeros,
    normal_threshold,
)
from tests.methods.gradients.by_hand import below, normal, normal_zeros, pruned, threshold_of

RATES = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99]


@pytest.mark.parametrize("rate", RATES)
def test_zeros_and_second_moment_of_a_normal_gradient(rate):
    gradient = normal()
    threshold = threshold_of(normal_threshold, gradient, rate)
    assert threshold == pytest.approx(below(rate), rel=5e-3)
    result = pruned(gradient, threshold)
    assert (result == 0).mean() == pytest.approx(normal_zeros(rate), abs=5e-3)
    moment = 2 * below(rate) / math.sqrt(2 * math.pi) + 1 - rate
    found = (result.astype("float64") ** 2).mean() / (gradient.astype("float64") ** 2).mean()
    assert found == pytest.approx(moment, rel=1e-2)


@pytest.mark.parametrize("deviation", [0.0, 0.1, 1.0, 2.0, 4.0, 6.0])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.99])
def test_zeros_of_a_lognormal_gradient_are_the_rate(deviation, rate):
    logs = np.random.default_rng(0).normal(-25, deviation, 10**6)
    gradient = np.exp(logs).astype("float32")
    threshold = threshold_of(lognormal_threshold, gradient, rate)
    assert (pruned(gradient, threshold) == 0).mean() == pytest.approx(rate, abs=5e-3)


@pytest.mark.parametrize("deviation", [0.5, 2.0, 5.0, 8.0])
def test_zeros_of_a_lognormal_gradient_are_an_integral(deviation):
    """Both branches of the formula against a sum over a fine grid."""
    for value in np.linspace(-2 * deviation, 4 * deviation, 13):
        logs = np.linspace(-12 * deviation, min(value, 12 * deviation), 200_001)
        weights = np.exp(-((logs / deviation) ** 2) / 2) / math.sqrt(2 * math.pi) / deviation
        expected = ((1 - np.exp(logs - value)) * weights).sum() * (logs[1] - logs[0])
        found = lognormal_zeros(np.float32(value), np.float32(deviation))
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_zeros_that_are_there_count_for_the_lognormal_rate():
    gradient = np.exp(np.random.default_rng(0).normal(0, 2, 10**6)).astype("float32")
    gradient[::2] = 0
    threshold = threshold_of(lognormal_threshold, gradient, 0.8)
    assert (pruned(gradient, threshold) == 0).mean() == pytest.approx(0.8, abs=5e-3)
    assert threshold_of(lognormal_threshold, gradient, 0.4) == 0


@pytest.mark.parametrize("function", [normal_threshold, lognormal_threshold])
def test_threshold_of_nothing_is_zero(function):
    assert threshold_of(function, np.zeros(10, "float32"), 0.9) == 0
