"""Figures of reports. Each function returns a matplotlib Figure, and neither shows nor saves it."""

import math

BLUE, ORANGE, GREEN, GREY = "#3b7fc4", "#c7622b", "#5a8f4e", "#8a919c"
DENSE = "#b9c0ca"  # seen on white and on black


def plain(axes):
    """No frame, and lines behind the data that are hardly seen."""
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def beside(axes):
    """The legend, to the right of the data."""
    if axes.get_legend_handles_labels()[1]:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0}
        axes.legend(frameon=False, fontsize=8, **place)


def plot_widths(report):
    """Bars of the channels of each layer, before and after.

    Args:
        report: A `resrep_keras.deploy.reported.Report`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, _height(report.widths)), layout="constrained")
    axes = figure.subplots()
    _bars(axes, list(report.widths), list(report.widths.values()), "channels")
    axes.invert_yaxis()
    left = [row for row in report.rows if row.name == "MACs" and math.isfinite(row.ratio)]
    title = "".join(f"; {100 * row.ratio:.1f} % of the MACs left" for row in left)
    axes.set_title(f"Widths before and after{title}", fontsize=10)
    beside(axes)
    return figure


def plot_layers(layers):
    """Bars of the channels, MACs and latency of each layer, before and after.

    Args:
        layers: `resrep_keras.deploy.by_layer.LayerRow`s.

    Returns:
        A `matplotlib.figure.Figure`; quantities of which nothing is known are left out.
    """
    from matplotlib.figure import Figure

    macs, time = [row.macs for row in layers], [row.milliseconds for row in layers]
    panels = {
        "channels": [row.channels for row in layers],
        **_in_units("MACs", macs, {"": 1, " (thousands)": 1e3, " (millions)": 1e6}),
        **_in_units("latency alone", time, {" (µs)": 1e-3, " (ms)": 1}),
    }
    panels = {
        label: pairs
        for label, pairs in panels.items()
        if any(value is not None for pair in pairs for value in pair)
    } or {"channels": [row.channels for row in layers]}
    names = [row.name for row in layers]
    figure = Figure(figsize=(3.4 + 2.4 * len(panels), _height(names)), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (label, pairs) in zip(every, panels.items()):
        known = [tuple(0 if value is None else value for value in pair) for pair in pairs]
        _bars(axes, names, known, label)
    every[0].invert_yaxis()
    beside(every[-1])
    return figure


def _height(names):
    """Inches that so many bars take: less for each where there are many."""
    return 1.3 + (0.28 if len(names) <= 40 else 0.19) * len(names)


def _in_units(label, pairs, units):
    """The largest unit of which the largest value has more than one, and the values in it."""
    largest = max((value for pair in pairs for value in pair if value is not None), default=0)
    fitting = [unit for unit, size in units.items() if largest >= size]
    unit = fitting[-1] if fitting else next(iter(units))
    scaled = [tuple(None if v is None else v / units[unit] for v in pair) for pair in pairs]
    return {f"{label}{unit}": scaled}


def _bars(axes, names, pairs, label):
    before, after = zip(*pairs) if names else ((), ())
    positions = range(len(names))
    axes.barh(positions, before, color=DENSE, label="dense")
    axes.barh(positions, after, height=0.5, color=BLUE, label="slim")
    short = [name if len(name) <= 40 else f"{name[:19]}...{name[-18:]}" for name in names]
    axes.set_yticks(positions, short, fontsize=8 if len(names) <= 40 else 7)
    axes.set_ylim(-0.7, max(0.7, len(names) - 0.3))
    axes.set_xlabel(label)
    axes.xaxis.get_major_locator().set_params(nbins=4)
    axes.spines[["top", "right"]].set_visible(False)


def plot_search(result):
    """The metric of each round of a search against the MACs that are left, and what is allowed.

    Args:
        result: A `resrep_keras.workflow.search.SearchResult`.

    Returns:
        A `matplotlib.figure.Figure`. A round whose target was out of reach is a mark on the axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    lowest = result.dense_metric - result.target_accuracy_drop / 100
    axes.axhline(lowest, color="#c7622b", ls="--", lw=1, label="lowest that is allowed")
    rounds = list(enumerate(result.trials, 1))
    accepted = [(100 * t.macs_left, t.metric) for _, t in rounds if t.accepted]
    path = zip(*[(100, result.dense_metric), *accepted])
    axes.plot(*path, "o-", color="#2f6fb5", ms=6, label="dense, and the rounds accepted")
    refused = [
        (100 * t.macs_left, t.metric) for _, t in rounds if t.metric is not None and not t.accepted
    ]
    if refused:
        axes.plot(*zip(*refused), "x", color="#c7622b", ms=7, mew=2, label="too low")
    beyond = [100 * (1 - t.target_reduction) for _, t in rounds if t.metric is None]
    if beyond:
        floor = axes.get_xaxis_transform()
        axes.plot(beyond, [0] * len(beyond), "|", c="#777777", ms=10, transform=floor)
        axes.lines[-1].set_label("out of reach")
    for number, trial in rounds:
        if trial.metric is not None:
            place = 100 * trial.macs_left, trial.metric
            axes.annotate(str(number), place, (5, 5), textcoords="offset points", fontsize=8)
    axes.set_xlim(102, 0)
    axes.set_xlabel("MACs left (%)")
    axes.set_ylabel("metric")
    axes.set_title("As far as the metric allows: rounds in their order", fontsize=10)
    axes.grid(color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    beside(axes)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_tasks(result):
    """Accuracy on each task after each task, as a heat map, and what it comes to over the tasks.

    Args:
        result: A `resrep_keras.workflow.tasks.TasksResult`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _heat_map(figure, left, 100 * result.accuracies)
    _curves_over_tasks(right, result)
    return figure


def _heat_map(figure, axes, accuracies):
    """Tasks from left to right, time from top to bottom; numbers where they can be read."""
    learned, tasks = accuracies.shape
    image = axes.imshow(accuracies, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="accuracy (%)", shrink=0.8)
    axes.set_xlabel("on task")
    axes.set_ylabel("after task")
    axes.set_title("Accuracy on each task", fontsize=10)
    axes.spines[:].set_visible(False)
    if tasks > 12:
        return
    axes.set_xticks(range(tasks))
    axes.set_yticks(range(learned))
    for row in range(learned):
        for column in range(row + 1):
            value = accuracies[row, column]
            color = "white" if value > 60 else "#222222"
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=color, fontsize=8
            )


def _curves_over_tasks(axes, result):
    numbers = result.over_tasks()
    curves = {
        "average accuracy": (numbers["average_accuracy"], "#2f6fb5", "o-"),
        "accuracy when learned": (numbers["learning_accuracy"], "#8fb3d9", "--"),
        "forgetting": (numbers["forgetting"], "#c7622b", "o-"),
        "free capacity": (result.free_capacity, "#5a8f4e", ":"),
    }
    for label, (values, color, style) in curves.items():
        axes.plot(range(len(values)), 100 * values, style, color=color, label=label, ms=3)
    axes.set_xlabel("after task")
    axes.set_ylabel("%")
    axes.set_ylim(min(0, 100 * numbers["forgetting"].min()) - 2, 102)
    axes.set_title("Over the tasks", fontsize=10)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    axes.spines[["top", "right"]].set_visible(False)
