"""Report: dense against slim model, as text, JSON, Markdown and HTML."""

import dataclasses
import json
import math

from resrep_keras.common.checks import check_path, shown
from resrep_keras.common.files import write_text
from resrep_keras.costs.comparison import Conditions
from resrep_keras.methods.certificate import Certificate
from resrep_keras.methods.pruning_log import PruningLog

ENDINGS = (".html", ".md", ".json", ".txt")


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured quantity of both models.

    Args:
        name, unit: What was measured.
        dense, slim: Its values; `None` where they are not known.
        note: What is not known of them; `None` where all is.
        is_quality: Whether it is what `evaluate` tells, and no cost.
    """

    name: str
    unit: str
    dense: float | None
    slim: float | None
    note: str | None = None
    is_quality: bool = False

    @property
    def ratio(self):
        return self.slim / self.dense if self.dense else float("nan")


@dataclasses.dataclass(frozen=True)
class Report:
    """Dense against slim model; `print` it, or `save` it as a page.

    Args:
        rows: A `Row` for each measured quantity: those that a target can be about, then others.
        widths: ``{layer name: (channels before, channels after)}``, in the order of the model.
        conditions: The `Conditions` of the measurements.
        name: The name of the dense model.
        layers: A `LayerRow` for each layer that makes channels or multiplies, in that order.
        certificate: The `Certificate` of the slim model; `None` where it has none.
        log: The `PruningLog` of the run; `None` where none was recorded.
        runs: The `Runs` to compare it with; `None` without.
        graph: The `ChannelGraph` of the dense model.
    """

    rows: tuple
    widths: dict
    conditions: Conditions
    name: str = "model"
    layers: tuple = ()
    certificate: Certificate | None = None
    log: PruningLog | None = dataclasses.field(default=None, repr=False)
    runs: object = dataclasses.field(default=None, repr=False)
    graph: object = dataclasses.field(default=None, repr=False, compare=False)

    def conditions_in_words(self):
        """The conditions; of latency only where something was timed."""
        timed = any("latency" in row.name for row in self.rows) or any(
            row.milliseconds != (None, None) for row in self.layers
        )
        return str(self.conditions) if timed else self.conditions.without_latency()

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
        from resrep_keras.deploy.page import text_page

        return text_page(self)

    def _repr_html_(self):
        """What a notebook shows; the text where the page cannot be made."""
        from resrep_keras.deploy.page import html_fragment

        try:
            return html_fragment(self)
        except ImportError:  # without the extra
            return None

    def save(self, path):
        """Write the report, as the ending of the path says.

        Args:
            path: Ends in `.html` (one page with its figures inside, which opens without a
                network), `.md`, `.json` or `.txt`; what stands there is replaced.

        Raises:
            ImportError: The page needs packages of the extra `reports`.
            OSError: The file cannot be written.
            ValueError: Another ending.

        Example:

        >>> resrep_keras.report(dense, slim).save("report.html")
        """
        path = check_page(path)
        made = {
            ".html": self.to_html,
            ".md": self.to_markdown,
            ".json": self.to_json,
            ".txt": lambda: f"{self}\n",
        }
        write_text(path, made[path.suffix.lower()]())

    def to_html(self, path=None):
        """Return the report as one HTML page, and write it to `path` where given."""
        from resrep_keras.deploy.page import html_page

        return _written(html_page(self), path)

    def to_markdown(self, path=None):
        """Return the report as Markdown, without figures, and write it to `path` where given."""
        from resrep_keras.deploy.page import markdown_page

        return _written(markdown_page(self), path)

    def to_json(self, path=None):
        """Return the report as a JSON text, and write it to `path` where given."""
        values = {
            "model": self.name,
            "rows": [{**dataclasses.asdict(row), "ratio": row.ratio} for row in self.rows],
            "widths": self.widths,
            "layers": [dataclasses.asdict(row) for row in self.layers],
            "certificate": self.certificate and dataclasses.asdict(self.certificate),
            "log": self.log and self.log.to_dict(),
            "runs": self.runs and {"header": self.runs.header, "rows": self.runs.rows},
            "conditions": self.conditions_in_words(),
            "settings": dataclasses.asdict(self.conditions),
        }
        return _written(json.dumps(_plain(values), indent=1, default=float), path)

    def plot(self):
        """Return a matplotlib `Figure` of the widths before and after."""
        from resrep_keras.deploy.plots import plot_widths

        return plot_widths(self)


def check_page(path):
    """Return the path of a report that can be written.

    Raises:
        ImportError: A page in HTML needs packages that are not installed.
        ValueError: Another ending than those of `ENDINGS`.
    """
    from resrep_keras.deploy.page import check_packages

    path = check_path("path", path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(
            f"Expected a path that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; got "
            f"'{path}'."
        )
    if path.suffix.lower() == ".html":
        check_packages()
    return path


def _written(text, path):
    if path is not None:
        write_text(check_path("path", path), text)
    return text


def _plain(value):
    """The same as JSON has it, which knows no number that is none."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
