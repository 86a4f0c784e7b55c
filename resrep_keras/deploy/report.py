"""report(dense, slim): what pruning has changed, measured side by side."""

import dataclasses
import json
import os
import tempfile

import keras

from resrep_keras.common.files import write_text
from resrep_keras.costs.latency import keras_latency, tflite_latency
from resrep_keras.costs.macs import count_macs
from resrep_keras.costs.params import count_params
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.forward import example_inputs
from resrep_keras.tflite.convert import to_tflite


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured quantity of both models."""

    name: str
    unit: str
    dense: float
    slim: float

    @property
    def ratio(self):
        return self.slim / self.dense if self.dense else float("nan")


@dataclasses.dataclass(frozen=True)
class Report:
    """Dense against slim model; `print` it, or see `to_json` and `plot`.

    Args:
        rows: The measured quantities.
        widths: ``{layer name: (channels before, channels after)}``.
        conditions: What was measured how.
    """

    rows: tuple
    widths: dict
    conditions: str

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
        return "\n".join([*lines, "", self.conditions])

    def to_json(self, path=None):
        """Return the report as a JSON text, and write it to `path` where given."""
        text = json.dumps(
            {
                "rows": [{**dataclasses.asdict(row), "ratio": row.ratio} for row in self.rows],
                "widths": {name: list(pair) for name, pair in self.widths.items()},
                "conditions": self.conditions,
            },
            indent=1,
        )
        if path is not None:
            write_text(path, text)
        return text

    def plot(self):
        """Return a matplotlib `Figure` of the widths before and after."""
        from resrep_keras.deploy.plots import plot_widths

        return plot_widths(self)


def _number(value):
    return f"{value:,.0f}" if isinstance(value, int) or value >= 1000 else f"{value:.4g}"


def report(dense, slim, test_data=None, threads=1, batch_size=1, repeats=50):
    """Compare a dense and a slim model.

    Latencies are medians of calls made in turn, after a warm-up, so that their ratio holds where
    the machine's speed drifts.

    Args:
        dense: The model before.
        slim: The model after.
        test_data: Pair `(x, y)` of arrays. Where given, accuracy is reported: the share of rows
            whose largest output is the label.
        threads: Threads of the TFLite interpreter. Defaults to `1`.
        batch_size: Batch size of the latencies. Defaults to `1`.
        repeats: Number of timed calls. Defaults to `50`.

    Returns:
        A `Report`.
    """
    models = (dense, slim)
    rows = [
        Row("MACs", "", *(count_macs(m) for m in models)),
        Row("parameters", "", *(count_params(m) for m in models)),
        Row(".keras file", "bytes", *(_file_bytes(m) for m in models)),
    ]
    inputs = example_inputs(dense, batch_size)
    if keras.backend.backend() == "tensorflow":
        contents = [to_tflite(m, batch_size) for m in models]
        rows.append(Row(".tflite file", "bytes", *(len(content) for content in contents)))
        seconds = tflite_latency(contents, keras.tree.flatten(inputs), threads, repeats)
        rows.append(Row("TFLite latency", "ms", *(1000 * s for s in seconds)))
    seconds = keras_latency(models, inputs, repeats)
    rows.append(Row("Keras latency", "ms", *(1000 * s for s in seconds)))
    if test_data is not None:
        rows.append(Row("accuracy", "%", *(100 * _accuracy(m, *test_data) for m in models)))
    conditions = (
        f"Latency: median of {repeats} calls in turn after a warm-up, batch {batch_size}; TFLite on "
        f"{threads} thread(s), Keras {keras.__version__} on {keras.backend.backend()}."
    )
    return Report(tuple(rows), _widths(dense, slim), conditions)


def _file_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return os.path.getsize(path)


def _accuracy(model, x, y):
    predicted = model.predict(x, batch_size=256, verbose=0).argmax(axis=-1)
    return float((predicted == y.reshape(predicted.shape)).mean())


def _widths(dense, slim):
    before, after = (
        {p.name: len(p.channels) for group in trace(m).groups for p in group.producers}
        for m in (dense, slim)
    )
    return {name: (before[name], after[name]) for name in before if name in after}
