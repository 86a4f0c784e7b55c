"""search: prune as far as a validation metric allows, going on from what has been trained."""

import collections.abc
import dataclasses
import math

import keras

from resrep_keras.common.checks import check_function, check_number, shown
from resrep_keras.common.progress import check_verbose, tell
from resrep_keras.costs.budget import UnreachableTarget
from resrep_keras.costs.macs import count_macs
from resrep_keras.deploy.runs import Runs, runs_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.methods.channels.channel_method import ChannelMethod
from resrep_keras.methods.channels.resrep import ResRep
from resrep_keras.methods.method import Method, check_method
from resrep_keras.training.compiling import compile_alike
from resrep_keras.workflow.finalize import finalize
from resrep_keras.workflow.wrap import wrap

SMALLEST_STEP = 1e-3  # as a share of what is left


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

    def __str__(self):
        asked = f"{100 * self.target_reduction:.1f} % of the MACs to remove: "
        if self.metric is None:
            return f"{asked}out of reach."
        verdict = "accepted" if self.accepted else "too low"
        left = f"{100 * self.macs_left:.1f} % are left"
        return f"{asked}{left}, metric {self.metric:.4f}, {verdict}."


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What `search` returns.

    Args:
        model: The smallest slim model whose metric was allowed; `None` where there was none.
        dense_metric: The metric of the dense model.
        trials: The `Trial`s, in their order.
        target_accuracy_drop: Loss of the metric that was allowed, in percentage points.

    `print` shows a line for each round.
    """

    model: keras.Model | None
    dense_metric: float
    trials: tuple
    target_accuracy_drop: float

    def __str__(self):
        allowed = f"{self.target_accuracy_drop:g} points less are allowed"
        lines = [f"The dense model's metric is {self.dense_metric:.4f}; {allowed}."]
        lines += [f"Round {number}, {trial}" for number, trial in enumerate(self.trials, 1)]
        accepted = [trial for trial in self.trials if trial.accepted]
        end = "No round was accepted: there is no slim model."
        if accepted:
            end = (
                f"The slim model has {100 * accepted[-1].macs_left:.1f} % of the MACs, "
                f"metric {accepted[-1].metric:.4f}."
            )
        return "\n".join([*lines, end])

    def plot(self):
        """Return a matplotlib `Figure` of the metric against the MACs that each round left."""
        from resrep_keras.deploy.plots import plot_search

        return plot_search(self)


@runs_of.register
def _of_search(found: SearchResult):
    rounds = enumerate(found.trials, 1)
    rows = (
        (
            f"round {number}",
            *("out of reach" if v is None else f"{v:.4g}" for v in _told(trial)),
            "accepted" if trial.accepted else "refused",
        )
        for number, trial in rounds
    )
    header = ("run", "MACs to remove (%)", "MACs left (%)", "metric", "verdict")
    return Runs(tuple(str(found).splitlines()), header, tuple(rows), found.plot)


def _told(trial):
    left = None if trial.macs_left is None else 100 * trial.macs_left
    return 100 * trial.target_reduction, left, trial.metric


def search(
    dense: keras.Model,
    fit: collections.abc.Callable[[keras.Model], object],
    evaluate: collections.abc.Callable[[keras.Model], float],
    target_accuracy_drop: float = 0.5,
    method: Method | None = None,
    rounds: int = 5,
    first_reduction: float = 0.5,
    verbose: str | int = "auto",
) -> SearchResult:
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
        method: A method that removes channels; what it says of `target_reduction` is replaced.
            Defaults to `ResRep()`.
        rounds: Number of rounds at most, 1 or more; there are fewer where a step would be below a
            thousandth of what is left. Defaults to `5`.
        first_reduction: Share of the MACs to remove in the first round. Defaults to `0.5`.
        verbose: `0` for silence, `1` for a line at the end of each round; `"auto"` for one where
            somebody looks. Defaults to `"auto"`.

    Returns:
        A `SearchResult`.

    Raises:
        TypeError: `fit` or `evaluate` is not a function, `dense` not a model, `method` not a
            method.
        ValueError: A number is out of range, the method removes no channels, or the metric is not
            a number.

    Example:

    >>> found = resrep_keras.search(
    ...     dense,
    ...     fit=lambda model: model.fit(x, y, epochs=10),
    ...     evaluate=lambda model: (model.predict(x_val).argmax(-1) == y_val).mean(),
    ...     target_accuracy_drop=0.5,
    ... )
    >>> print(found)
    >>> found.model.save("slim.keras")
    >>> found.plot().savefig("search.png")
    """
    check_model(dense, "dense")
    method = ResRep() if method is None else check_method("method", method)
    _check(fit, evaluate, target_accuracy_drop, rounds, first_reduction, method)
    check_verbose(verbose)
    dense_macs, base = count_macs(dense, method.input_shape), score_of(evaluate, dense)
    best, removed, step = None, 0.0, float(first_reduction)
    trials: list[Trial] = []
    while len(trials) < rounds and step > SMALLEST_STEP:
        share = removed + (1 - removed) * step
        slim, metric = _try(best or dense, dense, fit, evaluate, method, removed, share)
        left = None if slim is None else count_macs(slim, method.input_shape) / dense_macs
        accepted = metric is not None and 100 * (base - metric) <= target_accuracy_drop
        trials.append(Trial(share, left, metric, accepted))
        tell(f"Round {len(trials)} of at most {rounds}, {trials[-1]}", verbose)
        if accepted and left is not None:
            best, removed = slim, 1 - left
        else:
            step /= 2
    return SearchResult(best, base, tuple(trials), target_accuracy_drop)


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
    return slim, score_of(evaluate, slim)


def score_of(evaluate, model):
    """What a user's `evaluate(model)` returns, as a float.

    Raises:
        ValueError: Not a finite number.
    """
    metric = evaluate(model)
    try:
        metric = float(metric)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected evaluate(model) to return a number such as an accuracy; got {shown(metric)}."
        ) from error
    if not math.isfinite(metric):
        raise ValueError(f"Expected evaluate(model) to return a finite number; got {metric}.")
    return metric


def _check(fit, evaluate, target_accuracy_drop, rounds, first_reduction, method):
    check_function("fit", fit, "a function that trains a model")
    check_function("evaluate", evaluate, "a function that maps a model to its metric")
    check_number("target_accuracy_drop", target_accuracy_drop, at_least=0)
    check_number("rounds", rounds, at_least=1, whole=True)
    check_number("first_reduction", first_reduction, above=0, below=1)
    if not isinstance(method, ChannelMethod):
        raise ValueError(
            "search asks for a share of the MACs in each round, and expects a method that removes "
            f"channels, such as ResRep(); got {method!r}. Prune channels first, then wrap "
            "the slim model with this method."
        )
