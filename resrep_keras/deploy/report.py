"""report(dense, slim): what pruning has changed, measured side by side."""

import dataclasses
import json
import os
import tempfile

from resrep_keras.common.checks import (
    check_choice,
    check_instance,
    check_number,
    check_path,
    shown,
)
from resrep_keras.common.files import write_text
from resrep_keras.common.retracing import quiet_about_tracing
from resrep_keras.costs.comparison import Comparison, Conditions
from resrep_keras.costs.latency import keras_latency
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.costs.terms import UnknownCost
from resrep_keras.deploy.quality import quality
from resrep_keras.graph.sizes import check_input_shape
from resrep_keras.graph.unroll import as_functional, check_model, is_graph


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured quantity of both models.

    Args:
        name, unit: What was measured.
        dense, slim: Its values; `None` where they are not known.
        note: What is not known of them; `None` where all is.
    """

    name: str
    unit: str
    dense: float | None
    slim: float | None
    note: str | None = None

    @property
    def ratio(self):
        return self.slim / self.dense if self.dense else float("nan")


@dataclasses.dataclass(frozen=True)
class Report:
    """Dense against slim model; `print` it, or see `to_json` and `plot`.

    Args:
        rows: A `Row` for each measured quantity: those that a target can be about, then others.
        widths: ``{layer name: (channels before, channels after)}``.
        conditions: The `Conditions` of the measurements.
    """

    rows: tuple
    widths: dict
    conditions: Conditions

    def row(self, name):
        """The `Row` of that name.

        Raises:
            ValueError: There is none.
        """
        for row in self.rows:
            if isinstance(name, str) and row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise ValueError(f"Expected the name of a row ({known}); got {shown(name)}.")

    def __str__(self):
        lines = [f"{'':28}{'dense':>14}{'slim':>14}{'ratio':>8}"]
        for row in self.rows:
            name = f"{row.name} ({row.unit})" if row.unit else row.name
            lines.append(
                f"{name:28}{_number(row.dense):>14}{_number(row.slim):>14}{row.ratio:>8.3f}"
            )
        lines.append("")
        lines.append(f"{'channels of layer':28}{'dense':>14}{'slim':>14}{'ratio':>8}")
        for name, (before, after) in self.widths.items():
            lines.append(f"{name[:27]:28}{before:>14}{after:>14}{after / before:>8.3f}")
        notes = [f"{row.name} are unknown: {row.note}" for row in self.rows if row.note]
        return "\n".join([*lines, "", *notes, str(self.conditions)])

    def to_json(self, path=None):
        """Return the report as a JSON text, and write it to `path` where given."""
        text = json.dumps(
            {
                "rows": [{**dataclasses.asdict(row), "ratio": row.ratio} for row in self.rows],
                "widths": {name: list(pair) for name, pair in self.widths.items()},
                "conditions": str(self.conditions),
                "settings": dataclasses.asdict(self.conditions),
            },
            indent=1,
        )
        if path is not None:
            write_text(check_path("path", path), text)
        return text

    def plot(self):
        """Return a matplotlib `Figure` of the widths before and after."""
        from resrep_keras.deploy.plots import plot_widths

        return plot_widths(self)


def _number(value):
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:.4g}"


def report(
    dense,
    slim,
    test_data=None,
    threads=1,
    batch_size=1,
    repeats=50,
    input_shape=None,
    leave_out=(),
):
    """Compare a dense and a slim model, each row under equal conditions.

    Quality is what `evaluate` tells of both, with the loss and metrics that the dense model is
    compiled with, or else the slim one: a row for each name that `evaluate` gives. Latencies are
    medians of calls made in turn, after a warm-up, so that their ratio holds where the machine's
    speed drifts. Bytes of `.keras` files are those of models without an optimizer.

    Args:
        dense: The model before.
        slim: The model after.
        test_data: `(x, y)` or `(x, y, sample_weight)` of arrays, a `tf.data.Dataset`, or whatever
            else `evaluate` takes and can be read twice. Defaults to none, without rows of quality.
        threads: Threads of the TFLite interpreter. Defaults to `1`.
        batch_size: Batch size of the latencies. Defaults to `1`.
        repeats: Number of timed calls. Defaults to `50`.
        input_shape: Shape without batch for models that leave sizes open, see
            `resrep_keras.graph.sizes`. Defaults to `None`: what depends on an unknown size is left
            out, and latencies are those of size 64.
        leave_out: What not to measure: names that `target_reduction` takes, of which `"latency"`
            and `"file_bytes"` mean Keras's, too, `"quality"` or `"widths"`. Defaults to nothing.

    Returns:
        A `Report`.

    Raises:
        TypeError: Not a Keras model, or an argument of another kind.
        ValueError: An argument out of range, or `test_data` where neither model is compiled.

    Example:

    >>> table = resrep_keras.report(dense, slim, (x_test, y_test), leave_out=["latency"])
    >>> table.row("accuracy").slim
    """
    left = _check_leave_out(leave_out)
    check_model(dense, "dense")
    check_model(slim, "slim")
    conditions = Conditions(
        check_number("threads", threads, at_least=1, at_most=1024, whole=True),
        check_number("batch_size", batch_size, at_least=1, whole=True),
        check_number("repeats", repeats, at_least=1, whole=True),
        check_input_shape(input_shape),
    )
    # First what may be refused; what takes time comes after it.
    wanted = test_data is not None and "quality" not in left
    told = quality(dense, slim, test_data) if wanted else {}
    compared = Comparison(dense, slim, conditions)
    rows = list(_quantity_rows(compared, left))
    plain = [as_functional(model) for model in compared.models]  # compiled in no way
    if "file_bytes" not in left:
        rows.append(Row(".keras file", "bytes", *map(_file_bytes, plain)))
    if "latency" not in left:
        timed = [p if is_graph(m) else m for p, m in zip(plain, compared.models)]
        with quiet_about_tracing():
            seconds = keras_latency(timed, compared.inputs, repeats)
        rows.append(Row("Keras latency", "ms", *(1000 * s for s in seconds)))
    rows.extend(Row(name, "", *values) for name, values in told.items())
    widths = {} if "widths" in left else _widths(*compared.graphs)
    return Report(tuple(rows), widths, conditions)


def _check_leave_out(leave_out):
    """The names of what is left out, as a set."""
    known = [*QUANTITIES, "quality", "widths"]
    words = "a list of names such as ['latency']"
    check_instance("leave_out", leave_out, (list, tuple, set, frozenset), words)
    return {check_choice("each of leave_out", name, known) for name in leave_out}


def _quantity_rows(compared, left):
    """A row for each quantity that a target can be about, where this process can tell it."""
    for name, quantity in QUANTITIES.items():
        if name in left:
            continue
        try:
            values = quantity.compare(compared)
        except UnknownCost as error:
            values = None, None, str(error)
        if values is not None:
            yield Row(quantity.label, quantity.unit, *values)


def _file_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return os.path.getsize(path)


def _widths(*graphs):
    before, after = (
        {p.name: len(p.channels) for group in graph.groups for p in group.producers}
        for graph in graphs
    )
    return {name: (before[name], after[name]) for name in before if name in after}
