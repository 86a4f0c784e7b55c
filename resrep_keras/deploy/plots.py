"""Figures of reports. Each function returns a matplotlib Figure, and neither shows nor saves it."""


def plot_widths(report):
    """Bars of the channels of each layer, before and after.

    Args:
        report: A `resrep_keras.deploy.report.Report`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    names = list(report.widths)
    before, after = zip(*report.widths.values()) if names else ((), ())
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    positions = range(len(names))
    axes.barh(positions, before, color="#d5d9e0", label="dense")
    axes.barh(positions, after, height=0.5, color="#2f6fb5", label="slim")
    axes.set_yticks(positions, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("channels")
    left = [row for row in report.rows if row.name == "MACs"]
    title = "".join(f"; {100 * row.ratio:.1f} % of the MACs left" for row in left)
    axes.set_title(f"Widths before and after{title}", fontsize=10)
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_search(result):
    """The metric of each round of a search against the MACs that are left, and what is allowed.

    Args:
        result: A `resrep_keras.workflow.search.SearchResult`.

    Returns:
        A `matplotlib.figure.Figure`. A round whose target was out of reach is a mark on the axis.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
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
    axes.legend(frameon=False, fontsize=8, loc="lower left")
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
