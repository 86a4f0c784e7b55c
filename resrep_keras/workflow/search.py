"""search: prune as far as a validation metric allows, going on from what has been trained."""

import dataclasses
import math

import keras

from resrep_keras.common.checks import check_number
from resrep_keras.costs.budget import UnreachableTarget
from resrep_keras.costs.macs import count_macs
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.channels.resrep import ResRep
from resrep_keras.workflow.finalize import finalize
from resrep_keras.workflow.wrap import compile_alike, wrap


@dataclasses.dataclass(frozen=True)
class Trial:
    """One round of a search.

    Args:
        target_reduction: Share of the dense MACs that was to be removed.
        macs_left: Share that was left; `None` where the target was out of reach.
        metric: The metric of the slim model; `None` where there was none.
        accepted: Whether the metric allowed it.
    """

    target_reduction: float
    macs_left: float | None
    metric: float | None
    accepted: bool


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What `search` returns.

    Args:
        model: The smallest slim model whose metric was allowed; `None` where there was none.
        dense_metric: The metric of the dense model.
        trials: The `Trial`s, in their order.
    """

    model: keras.Model | None
    dense_metric: float
    trials: tuple


def search(
    dense, fit, evaluate, target_accuracy_drop=0.5, method=None, rounds=5, first_reduction=0.5
):
    """Prune as far as a validation metric allows.

    Each round prunes the best slim model so far, not the dense one, so that its training is used
    again. A round that is accepted is followed by one as large a step further; one that is not, or
    whose target is an `UnreachableTarget`, by one of half the step.

    Args:
        dense: A trained `keras.Model`. Where it is compiled, so are the models that `fit` gets.
        fit: Function that trains a wrapped model: ``lambda model: model.fit(train, epochs=10)``.
        evaluate: Function that maps a model to its metric, larger = better, in [0, 1]:
            accuracy on validation data, say. It gets slim models, and `dense`.
        target_accuracy_drop: Loss of the metric that is allowed, in percentage points, 0 or more.
            Defaults to `0.5`.
        method: The method; what it says of `target_reduction` is replaced. Defaults to `ResRep()`.
        rounds: Number of rounds. Defaults to `5`.
        first_reduction: Share of the MACs to remove in the first round. Defaults to `0.5`.

    Returns:
        A `SearchResult`.

    Raises:
        TypeError: `fit` or `evaluate` is not a function, or `dense` not a model.
        ValueError: A number is out of range, or the metric is not a number.

    Example:

    >>> found = resrep_keras.search(
    ...     dense,
    ...     fit=lambda model: model.fit(x, y, epochs=10),
    ...     evaluate=lambda model: (model.predict(x_val).argmax(-1) == y_val).mean(),
    ...     target_accuracy_drop=0.5,
    ... )
    >>> found.model
    """
    check_model(dense)
    method = ResRep() if method is None else method
    _check(fit, evaluate, target_accuracy_drop, rounds, first_reduction)
    dense_macs, base = count_macs(dense, method.input_shape), _metric(evaluate, dense)
    best, removed, step, trials = None, 0.0, float(first_reduction), []
    for _ in range(rounds):
        share = removed + (1 - removed) * step
        slim, metric = _try(best or dense, dense, fit, evaluate, method, removed, share)
        accepted = metric is not None and 100 * (base - metric) <= target_accuracy_drop
        left = None if slim is None else count_macs(slim, method.input_shape) / dense_macs
        trials.append(Trial(share, left, metric, accepted))
        if accepted:
            best, removed = slim, 1 - left
        else:
            step /= 2
    return SearchResult(best, base, tuple(trials))


def _try(start, dense, fit, evaluate, method, removed, share):
    """Prune `start` until `share` of the dense MACs is removed; the slim model and its metric."""
    relative = 1 - (1 - share) / (1 - removed)
    config = {**method.get_config(), "target_reduction": relative}
    try:
        model = wrap(start, type(method).from_config(config))
    except UnreachableTarget:
        return None, None
    fit(model)
    slim = finalize(model)
    if dense.compiled:
        compile_alike(dense, slim)
    return slim, _metric(evaluate, slim)


def _metric(evaluate, model):
    metric = evaluate(model)
    try:
        metric = float(metric)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected evaluate(model) to return a number such as an accuracy; got {metric!r}."
        ) from error
    if not math.isfinite(metric):
        raise ValueError(f"Expected evaluate(model) to return a finite number; got {metric}.")
    return metric


def _check(fit, evaluate, target_accuracy_drop, rounds, first_reduction):
    for name, function in (("fit", fit), ("evaluate", evaluate)):
        if not callable(function):
            raise TypeError(f"Expected {name} to be a function of a model; got {function!r}.")
    check_number("target_accuracy_drop", target_accuracy_drop, at_least=0)
    check_number("rounds", rounds, at_least=1, whole=True)
    check_number("first_reduction", first_reduction, above=0, below=1)
