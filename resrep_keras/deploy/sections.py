"""What a report says, part by part, whatever it is written as."""

import dataclasses
from collections.abc import Callable

from resrep_keras.explanation.picture import draw

MOST_EPOCHS = 12  # rows of a table over a run
LARGEST_PICTURE = 1_000_000  # characters: a page is to stay below 2 MB


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a report.

    Args:
        title: What it is about.
        words: Sentences, each a paragraph. What was not recorded is told here.
        header, rows: A table, empty for none.
        figure: Makes a matplotlib `Figure`; `None` for none.
        picture: Makes an SVG text; `None` for none.
    """

    title: str
    words: tuple = ()
    header: tuple = ()
    rows: tuple = ()
    figure: Callable | None = None
    picture: Callable | None = None


def sections_of(report):
    """The `Section`s of a `Report`, in their order."""
    return (
        _summary(report),
        _certificate(report),
        _of_layers(report),
        _compactors(report),
        _training(report),
        _several(report),
        _picture(report),
        Section("Conditions", (report.conditions_in_words(),)),
    )


def number(value):
    """A number as it is read; `None` is unknown."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def _ratio(before, after):
    return "-" if None in (before, after) or not before else f"{after / before:.3f}"


# --- both models ----------------------------------------------------------------------------------


def _summary(report):
    rows = tuple(
        (
            f"{row.name} ({row.unit})" if row.unit else row.name,
            number(row.dense),
            number(row.slim),
            _ratio(row.dense, row.slim),
        )
        for row in report.rows
    )
    costs = [row for row in report.rows if not row.is_quality and None not in (row.dense, row.slim)]
    words = [f"{100 * row.ratio:.1f} % of the {row.name}" for row in costs if row.dense]
    told = [f"The slim model has {', '.join(words)}."] if words else []
    quality = [row for row in report.rows if row.is_quality]
    if quality:
        pairs = ", ".join(f"{r.name} {number(r.slim)} (dense {number(r.dense)})" for r in quality)
        told.append(f"On the test data: {pairs}.")
    else:
        told.append("Quality: not measured; give test_data, to compiled models.")
    told += [f"{row.name} are unknown: {row.note}" for row in report.rows if row.note]
    return Section("Summary", tuple(told), ("", "dense", "slim", "ratio"), rows)


def _certificate(report):
    if report.certificate is None:
        return Section(
            "Certificate",
            (
                "Not recorded: the slim model carries no certificate. The models that finalize() "
                "and prune() return do; one that is read from a file does not.",
            ),
        )
    words = str(report.certificate).splitlines()
    macs = [row.dense for row in report.rows if row.name == "MACs"]
    if macs and report.certificate.macs_dense not in macs:
        words.append(
            "It compares with the model that was wrapped last, which is not this dense model: it "
            f"has {report.certificate.macs_dense:,} MACs."
        )
    return Section("Certificate", tuple(words))


def _of_layers(report):
    from resrep_keras.deploy.plots import plot_layers

    if not report.layers:
        return Section("Layers", ("Not measured: leave_out has 'widths'.",))
    timed = any(row.milliseconds != (None, None) for row in report.layers)
    header = ["layer", "channels", "slim channels", "ratio", "MACs", "slim MACs", "ratio"]
    rows = [(row.name, *_three(row.channels), *_three(row.macs)) for row in report.layers]
    words = ["In the order of the model. MACs are those of one example."]
    if timed:
        header += ["ms", "slim ms", "ratio"]
        rows = [(*cells, *_three(row.milliseconds)) for cells, row in zip(rows, report.layers)]
        words.append("Each layer was timed alone, as TFLite; what runs fused with it is not.")
    else:
        words.append("Latency of the layers: not measured; layer_latency=True times them.")
    return Section(
        "Layers", tuple(words), tuple(header), tuple(rows), lambda: plot_layers(report.layers)
    )


def _three(pair):
    """The cells of a pair of numbers."""
    dense, slim = ("-" if value is None else number(value) for value in pair)
    return dense, slim, _ratio(*pair)


# --- the run --------------------------------------------------------------------------------------

HOW = (
    "A run is recorded in the model that wrap() returns, and goes with what finalize() makes of "
    "it; a slim model that is read from a file has none."
)


def _compactors(report):
    from resrep_keras.deploy.run_plots import plot_norms

    noted = [] if report.log is None else report.log.with_norms
    if not noted:
        return Section("Channels that remember and forget", (f"Not recorded. {HOW}",))
    shown = _thinned(noted)
    rows = tuple(
        (
            number(entry.step),
            *(number(n) for n in _counts(entry.norms)),
            *(_middle(part) for part in (entry.norms.kept, entry.norms.masked)),
        )
        for entry in shown
    )
    words = (
        "Norms of the columns of all compactors, 1 at the start. Channels that are masked are "
        "pressed to zero, the others go on learning.",
    )
    header = (report.log.counts, "remember", "being forgotten", "zero or gone")
    header += ("median norm, remember", "median norm, masked")
    title = "Channels that remember and forget"
    return Section(title, words, header, rows, lambda: plot_norms(report.log))


def _counts(norms):
    return norms.num_kept, norms.num_masked, norms.num_zero


def _middle(quantiles):
    return f"{quantiles[len(quantiles) // 2]:.3g}" if quantiles else "-"


def _thinned(entries):
    """The first, the last, and some between."""
    if len(entries) <= MOST_EPOCHS:
        return entries
    step = (len(entries) - 1) / (MOST_EPOCHS - 1)
    return [entries[round(n * step)] for n in range(MOST_EPOCHS)]


def _training(report):
    from resrep_keras.deploy.run_plots import plot_progress

    ends = [] if report.log is None else report.log.epochs
    if not ends:
        return Section("Quality and cost over the run", (f"Not recorded. {HOW}",))
    names = list(dict.fromkeys(name for entry in ends for name in entry.values))
    rows = tuple(
        (entry.epoch, *(_told(entry.values, name) for name in names)) for entry in _thinned(ends)
    )
    words = (
        f"{len(ends)} epochs. macs_left is the share of the dense MACs that keep masks leave.",
    )
    return Section(
        "Quality and cost over the run",
        words,
        ("epoch", *names),
        rows,
        lambda: plot_progress(report.log),
    )


def _told(values, name):
    return f"{values[name]:.4g}" if name in values else "-"


# --- more -----------------------------------------------------------------------------------------


def _several(report):
    if report.runs is None:
        return Section(
            "Several runs",
            ("None were given; runs=search(...) or runs={name: report} draws them.",),
        )
    found = report.runs
    return Section("Several runs", found.words, found.header, found.rows, found.figure)


def _picture(report):
    title = "The dense model and its channel groups"
    if report.graph is None:
        return Section(title, ("Not recorded.",))
    return Section(title, picture=lambda: draw(report.graph))
