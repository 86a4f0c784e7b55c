"""Several runs side by side: quality against cost."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from resrep_keras.common.checks import came
from resrep_keras.deploy.reported import Report


@dataclasses.dataclass(frozen=True)
class Runs:
    """Several runs, as a report tells of them.

    Args:
        words: Sentences about them.
        header, rows: A table: names, then numbers.
        figure: Makes a matplotlib `Figure` of them.
    """

    words: tuple
    header: tuple
    rows: tuple
    figure: Callable = dataclasses.field(repr=False, compare=False)


@functools.singledispatch
def runs_of(found):
    """The `Runs` that something stands for.

    Args:
        found: What `search` returns, or ``{name: Report, or a list of them}``.

    Raises:
        TypeError: Something else.
        ValueError: Reports that have no row of quality in common, or none of MACs.
    """
    raise TypeError(
        "Expected runs to be what search() returns, or a dict of reports by name, such as "
        f"{{'half': report(dense, slim, data)}}; {came(found)}."
    )


@runs_of.register(Mapping)
def _of_reports(found):
    from resrep_keras.deploy.run_plots import plot_runs

    reports = {name: _listed(name, given) for name, given in found.items()}
    metric = _common_metric([each for many in reports.values() for each in many])
    series = {"dense": _dense(reports, metric)}
    series |= {
        str(name): tuple((r.row("MACs").ratio, r.row(metric).slim) for r in many)
        for name, many in reports.items()
    }
    rows = [(name, *pair) for name, pairs in series.items() for pair in pairs]
    return Runs(
        words=(f"Each run: {metric}, and the share of the dense MACs that it left.",),
        header=("run", "MACs left (%)", metric),
        rows=tuple((name, f"{100 * left:.1f}", f"{value:.4g}") for name, left, value in rows),
        figure=functools.partial(plot_runs, series, metric),
    )


def _listed(name, given):
    many = given if isinstance(given, (list, tuple)) else [given]
    for each in many:
        if not isinstance(each, Report):
            raise TypeError(f"Expected a Report, or a list of them, as run '{name}'; {came(each)}.")
    return many


def _dense(reports, metric):
    """The points of the dense models, each once."""
    return tuple(
        dict.fromkeys((1.0, r.row(metric).dense) for many in reports.values() for r in many)
    )


def _common_metric(reports):
    """The row of quality that all reports have, no loss where there is another."""
    names = [row.name for row in reports[0].rows if row.is_quality] if reports else []
    names = [n for n in names if all(n in {row.name for row in r.rows} for r in reports)]
    if not names or not all("MACs" in {row.name for row in r.rows} for r in reports):
        raise ValueError(
            "Expected runs whose reports have the MACs and a metric in common; got none. Make each "
            "with the same test_data, and without 'macs' or 'quality' in leave_out."
        )
    return next((name for name in names if not name.endswith("loss")), names[0])
