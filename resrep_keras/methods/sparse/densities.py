"""Sparsity of single weights: how much of each kernel is zero, and when.

*Density* is the share of a tensor's entries that are kept, *sparsity* the share that is zero.
"""

import fnmatch
import math

import numpy as np
from keras import ops

from resrep_keras.common.checks import check_number
from resrep_keras.layers.compactor import is_compactor_kernel

# The rate of regrowth ends here; see `regrow_rate_at`.
LAST_RATE = 0.005


# --- how much of each layer ---------------------------------------------------------------------


def uniform(shapes, density):
    """The same density for every kernel, up to rounding; see `erk`."""
    sizes = _sizes(shapes, density)
    return _whole(sizes, np.full(len(sizes), float(density)))


def erk(shapes, density):
    """Densities by the Erdős–Rényi-kernel rule: the smaller a kernel, the denser.

    A kernel of shape `s` gets

    ```
    density = epsilon * sum(s) / prod(s)
    ```

    with the one `epsilon` that leaves the asked share of all weights. A kernel that would get more
    than 1 is dense, and the others share the rest.

    Args:
        shapes: Shapes of the kernels, such as `(3, 3, in, out)` or `(in, out)`.
        density: Share of all weights that is kept, above 0 and up to 1.

    Returns:
        NumPy float array `(kernels,)`. Times the sizes they are whole numbers, and their sum is
        `round(density * all weights)`. No kernel is empty where there are weights enough.

    Example:

    >>> erk([(784, 300), (300, 100), (100, 10)], 1.0)
    array([1., 1., 1.])

    Reference:
        Evci et al., "Rigging the Lottery", ICML 2020, section 3.

    Note:
        The reference code draws each weight by itself, so that its count is right on average only.
    """
    sizes = _sizes(shapes, density)
    sums = np.array([float(sum(shape)) for shape in shapes])
    dense = np.full(len(sizes), density >= 1)
    while not dense.all():  # at 1, rounding could leave a divisor of 0
        budget = density * sizes.sum() - sizes[dense].sum()
        epsilon = budget / sums[~dense].sum()
        over = ~dense & (epsilon * sums > sizes)
        if not over.any():
            return _whole(sizes, np.where(dense, 1.0, epsilon * sums / sizes))
        dense |= over
    return np.ones(len(sizes))


DISTRIBUTIONS = {"erk": erk, "uniform": uniform}


def _sizes(shapes, density):
    check_number("density", density, above=0, at_most=1)
    return np.array([math.prod(shape) for shape in shapes], np.int64)


def _whole(sizes, densities):
    """Round to whole weights: the largest remainders go up, until the sum is right."""
    exact = sizes * densities
    counts = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(counts.sum())
    first = np.argsort(counts - exact, kind="stable")
    counts[first[: max(0, missing)]] += 1
    while (counts == 0).any() and counts.max() > 1:  # an empty layer would cut the model in two
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts / sizes


# --- when ----------------------------------------------------------------------------------------


def kept_at(k, n, first, last):
    """How many weights stay after `k` of `n` steps of gradual pruning.

    ```
    kept = last + round((first - last) * (1 - k / n)^3)
    ```

    The product is a long multiplication with digits to base `n`, so that it is exact in integers
    of 32 bits, on every backend; floats would miss the count of a large model.

    Args:
        k: Step, from 0 to `n`.
        n: Number of steps, 1 to `MOST_ROUNDS`.
        first, last: Numbers kept at `k = 0` and at `k = n`, below 2 ** 30.

    Returns:
        An int, or integer tensor where the arguments are tensors.
    """
    left = n - k
    digits = [2 * (first - last)]  # the whole part, then digits behind the point
    for _ in range(3):
        product = [0] * (len(digits) + 1)
        for place, digit in enumerate(digits):
            rest = digit % n * left
            product[place] = product[place] + digit // n * left + rest // n
            product[place + 1] = rest % n
        for place in range(len(digits), 0, -1):
            product[place - 1] = product[place - 1] + product[place] // n
            product[place] = product[place] % n
        digits = product
    return last + (digits[0] + 1) // 2


MOST_ROUNDS = 40_000  # n * n must fit into 32 bits


def regrow_rate_at(step, steps, rate):
    """Share of a layer's weights that is dropped and grown again, a float32 scalar.

    ```
    r = 0.005 + (rate - 0.005) / 2 * (1 + cos(pi * step / steps))
    ```

    Args:
        step: Training step, from 0 to `steps`.
        steps: Steps of the run.
        rate: The rate at step 0, in [0, 1).

    Reference:
        Liu et al., "Sparse Training via Boosting Pruning Plasticity", NeurIPS 2021; the end at
        0.005 is from its code.
    """
    share = ops.cast(step, "float32") / ops.cast(steps, "float32")
    return LAST_RATE + (rate - LAST_RATE) / 2 * (1 + ops.cos(math.pi * share))


# --- which weights --------------------------------------------------------------------------------


def sparse_kernels(variables, exclude=()):
    """The variables that are made sparse: of rank 2 or more, with a path that ends in "kernel".

    Args:
        variables: Variables of a model.
        exclude: Patterns such as `"head"` or `"block1_*"` of layers, or of paths of variables,
            that stay dense.

    Raises:
        ValueError: A pattern fits nothing, or nothing is left.
    """
    kernels = [
        variable
        for variable in variables
        if len(variable.shape) >= 2
        and variable.path.endswith("kernel")
        and not is_compactor_kernel(variable)
    ]
    paths = ", ".join(kernel.path for kernel in kernels)
    for pattern in exclude:
        if not any(_fits(kernel.path, pattern) for kernel in kernels):
            raise ValueError(
                f"Expected each entry of exclude to fit a layer or the path of a kernel ({paths}); "
                f"got '{pattern}'."
            )
    left = [k for k in kernels if not any(_fits(k.path, pattern) for pattern in exclude)]
    if not left:
        raise ValueError(
            "Expected trainable variables of rank 2 or more whose path ends in 'kernel'; "
            + (f"exclude={tuple(exclude)} leaves none of {paths}." if kernels else "found none.")
        )
    return left


def _fits(path, pattern, around=()):
    layer = path.rpartition("/")[0]
    parts = [*around, *layer.split("/")]
    names = {path, layer, "/".join([*around, path]), "/".join(parts), *parts}
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def named_by_path(variables, exclude, paths):
    """Entries of `exclude` that fit what is around a layer, as paths of the kernels in it.

    Args:
        variables: Those of a wrapped model, in which nothing is nested any more.
        exclude: See `sparse_kernels`; also names and patterns of models and layers around a layer.
        paths: ``{layer: names of the models and layers around it}``.

    Returns:
        A tuple that `sparse_kernels` takes. What fits nothing is left for it to refuse.
    """
    kernels = [variable.path for variable in variables if variable.path.endswith("kernel")]
    around = {path: paths.get(path.split("/")[0], ()) for path in kernels}
    found = []
    for pattern in exclude:
        fitting = [path for path in kernels if _fits(path, pattern, around[path])]
        by_itself = [path for path in fitting if _fits(path, pattern)]
        found += [pattern] if by_itself or not fitting else []
        found += [path for path in fitting if path not in by_itself]
    return tuple(dict.fromkeys(found))


def density_of(model, exclude=()):
    """Exact numbers of zeros in the kernels of a model.

    Args:
        model: A built Keras model.
        exclude: See `sparse_kernels`.

    Returns:
        ``{path: {"zeros": int, "size": int, "density": float}}``, one entry for each kernel and
        one called `"total"`.
    """
    found = {}
    for kernel in sparse_kernels(model.weights, exclude):
        values = ops.convert_to_numpy(kernel)
        found[kernel.path] = _density(int((values == 0).sum()), values.size)
    numbers = [(each["zeros"], each["size"]) for each in found.values()]
    return {**found, "total": _density(*map(sum, zip(*numbers)))}


def _density(zeros, size):
    return {"zeros": zeros, "size": size, "density": 1 - zeros / size}
