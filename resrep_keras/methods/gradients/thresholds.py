"""Below which size the entries of a gradient are pruned, and how many zeros that makes."""

import math
import statistics

import numpy as np
from keras import ops

# Each halves the interval that holds a threshold: 2**-30 of it is below float32 rounding.
HALVINGS = 30


def normal_threshold(size, rate):
    """Below which a share `rate` of a centred normal tensor lies.

    Args:
        size: Absolute values of the tensor, float32. Their mean is ``sqrt(2 / pi)`` times the
            standard deviation.
        rate: Number in [0, 1).
    """
    quantile = statistics.NormalDist().inv_cdf((1 + rate) / 2)
    return quantile * math.sqrt(math.pi / 2) * ops.mean(size)


def lognormal_threshold(size, rate):
    """The threshold whose stochastic rounding leaves a share `rate` of zeros.

    The logarithms of the entries above zero are taken for normal; zeros that are there count.

    Args:
        size: Absolute values of the tensor, float32.
        rate: Number in [0, 1).
    """
    present = size >= float(np.finfo("float32").tiny)  # no less, or its logarithm is not finite
    share = ops.mean(ops.cast(present, "float32"))
    some = ops.maximum(share, 1e-30)
    logs = ops.log(ops.where(present, size, 1.0))
    mean = ops.mean(logs) / some
    variance = ops.mean(ops.where(present, ops.square(logs - mean), 0.0)) / some
    deviation = ops.sqrt(ops.maximum(variance, 1e-8))
    wanted = 1 - (1 - rate) / some  # of those above zero
    solution = _solve(deviation, ops.clip(wanted, 1e-6, 1 - 1e-6))
    return ops.where(wanted > 0, ops.exp(mean + solution), 0.0)


def _solve(deviation, wanted):
    """The logarithm of the threshold at which `lognormal_zeros` are the `wanted`, by bisection.

    There are fewer zeros than entries below the threshold, and no fewer than by Markov's
    inequality: that bounds it on both sides.
    """
    low = deviation * math.sqrt(2) * ops.erfinv(2 * wanted - 1)
    high = ops.square(deviation) / 2 - ops.log1p(-wanted)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = lognormal_zeros(middle, deviation) > wanted
        return ops.where(enough, low, middle), ops.where(enough, middle, high)

    low, high = ops.fori_loop(0, HALVINGS, halve, (low, high))
    return (low + high) / 2


def lognormal_zeros(log_threshold, deviation):
    """The share of zeros that stochastic rounding makes of a log-normal tensor.

    For `x` with a normal logarithm of mean 0 and standard deviation `s`, and the threshold
    ``exp(v)``:

    ```
    E[(1 - x / exp(v)) * (x < exp(v))] = cdf(v / s) - exp(s**2 / 2 - v) * cdf(v / s - s)
    ```

    Args:
        log_threshold: `v`, float32 scalar.
        deviation: `s`, above 0.
    """
    above = log_threshold / deviation
    below = deviation - above
    exponent = ops.minimum(ops.square(deviation) / 2 - log_threshold, 60.0)
    near = ops.exp(exponent) * _cdf(-below)
    # Far out, float32 would multiply something huge with a rounding error. There, with the density
    # `pdf` and Mills' ratio `r = (1 - cdf) / pdf`, the product is pdf(v / s) * r(s - v / s).
    density = ops.exp(-ops.square(above) / 2) / math.sqrt(2 * math.pi)
    far = density * _mills(ops.maximum(below, 3.0))
    return _cdf(above) - ops.where(below < 3, near, far)


def _cdf(x):
    return (1 + ops.erf(x / math.sqrt(2))) / 2


def _mills(x):
    """``(1 - cdf(x)) / pdf(x)`` for x of 3 or more, by Laplace's continued fraction."""
    fraction = x
    for number in range(20, 0, -1):
        fraction = x + number / fraction
    return 1 / fraction
