"""The page, the bars and the figures of `continual.py`."""

import numpy as np
import trials
from common import RESULTS
from trials import mean_and_spread, spread

import resrep_keras
from resrep_keras.common.files import write_figure
from resrep_keras.common.tables import markdown_table

NUMBERS = {
    "average": resrep_keras.average_accuracy,
    "forgetting": resrep_keras.forgetting,
    "learning": resrep_keras.learning_accuracy,
}
BASELINE, WHOLE, PRUNED = "fine-tuning", "ANPyC, not pruned", "ANPyC, pruned"
COLORS = {
    BASELINE: "#222222",
    "EWC": "#c7622b",
    "MAS": "#b8912f",
    "SI": "#8a5ea8",
    WHOLE: "#2f6fb5",
    PRUNED: "#3f9b78",
}


def matrix(record):
    """The matrix of accuracies of a run, which is kept as the rows of a triangle."""
    rows = record["accuracies"]
    found = np.full((len(rows), len(rows)), np.nan)
    for task, row in enumerate(rows):
        found[task, : task + 1] = row
    return found


def numbers(record):
    """The numbers of one run, in percent."""
    accuracies = matrix(record)
    told = {name: round(100 * number(accuracies), 2) for name, number in NUMBERS.items()}
    told["free"] = round(100 * record["free_capacity"][-1], 2)
    return {**told, "seconds": record["seconds"]}


def curves(record):
    """The numbers after each task of one run, in percent."""
    accuracies = matrix(record)
    told = {
        name: [round(100 * number(accuracies[:end]), 2) for end in range(1, 1 + len(accuracies))]
        for name, number in NUMBERS.items()
        if name != "learning"
    }
    return {**told, "free": [round(100 * value, 2) for value in record["free_capacity"]]}


def summary(part):
    """What is kept of `{protocol: {method: {"strength", "validation", "runs"}}}`."""
    for methods in part.values():
        for found in methods.values():
            records = found["runs"]
            found["machines"] = sorted({record["machine"] for record in records})
            found["mean_accuracies"] = [
                [round(100 * float(np.mean(values)), 1) for values in zip(*rows)]
                for rows in zip(*(record["accuracies"] for record in records))
            ]
            found["curves"] = [curves(record) for record in records]
            found["runs"] = [numbers(record) for record in records]
    return part


def averages(methods, method):
    return np.array([run["average"] for run in methods[method]["runs"]])


def paired(methods, method, other):
    """Mean and deviation of the differences of two methods by seed, and what may be said of it."""
    differences = averages(methods, method) - averages(methods, other)
    mean, deviation = float(differences.mean()), spread(differences)
    words = "level"
    if len(differences) > 1 and abs(mean) > 2 * deviation:
        words = "better" if mean > 0 else "worse"
    return mean, deviation, words


def bars(ten):
    """`{words: whether it is met}`, each on the mean over the seeds."""
    found = {}
    for protocol, methods in ten.items():
        means = {method: float(averages(methods, method).mean()) for method in methods}
        for method, points in (("EWC", 3), ("MAS", 3), (WHOLE, 3), (PRUNED, 1)):
            words = f"{protocol}: {method} >= {BASELINE} + {points}"
            found[words] = means[method] >= means[BASELINE] + points
        words = f"{protocol}: {WHOLE} within 3 of the better of EWC and MAS"
        found[words] = means[WHOLE] >= max(means["EWC"], means["MAS"]) - 3
    return found


# --- the page -------------------------------------------------------------------------------------


def as_markdown(result):
    found = [found for methods in result["ten"].values() for found in methods.values()]
    machines = "; ".join(sorted({machine for each in found for machine in each["machines"]}))
    lines = [
        f"Made by `{result['command']}` on {machines}; permuted Fashion-MNIST, {result['tasks']} "
        f"tasks of {result['images']:,} images, {len(result['seeds'])} seeds, mean and sample "
        "standard deviation; trunk 784-64-32 with a head for each task, "
        f"{result['epochs']} epochs a task with those of retraining, SGD at 0.1, batch 128, "
        "gradient norm clipped to 5. Strengths are the best on validation images of seeds that are "
        "not reported.",
    ]
    for protocol, methods in result["ten"].items():
        lines += ["", f"## {result['tasks']} tasks, {RATES[protocol]}", "", *_table(methods)]
        lines += ["", *_differences(methods)]
    lines += ["", "## Bars", ""]
    lines += [f"- {'met' if met else 'MISSED'}: {bar}" for bar, met in result["bars"].items()]
    lines += ["", "## Strengths", "", *_strengths(result["ten"])]
    if result.get("long"):
        lines += ["", *_long(result["long"])]
    return "\n".join(lines) + "\n"


RATES = {
    "restarted": "the rate x 0.9 every 5 epochs, begun anew with each task and each retraining",
    "smooth": "the rate x 0.9 each epoch, smoothly, which goes on through a task's retraining",
}


COLUMNS = ("method", "strength", "average accuracy (%)", "by seed", "forgetting")
COLUMNS += ("when learned (%)", "free capacity (%)")


def _table(methods):
    return markdown_table(COLUMNS, _rows(methods))


def _rows(methods):
    for method in sorted(methods, key=lambda name: -averages(methods, name).mean()):
        found = methods[method]
        cells = [
            mean_and_spread([run[key] for run in found["runs"]])
            for key in ("average", "forgetting", "learning", "free")
        ]
        strength = f"{found['strength']:g}" if found["strength"] else "-"
        by_seed = trials.by_seed(averages(methods, method))
        yield method, strength, cells[0], by_seed, *cells[1:]


def _differences(methods):
    yield "Average accuracy by pairs of the same seed; *better* and *worse* beyond two deviations:"
    yield ""
    header = ("", *(f"against {other}" for other in methods if other != PRUNED))
    rows = []
    for method in methods:
        if method == BASELINE:
            continue
        cells = []
        for other in methods:
            if other != PRUNED:
                mean, deviation, words = paired(methods, method, other)
                cells.append("" if other == method else f"{mean:+.2f} ± {deviation:.2f}, {words}")
        rows.append((method, *cells))
    yield from markdown_table(header, rows)


def _strengths(part):
    yield "Average accuracy (%) on validation images, mean over the seeds of the choice:"
    for protocol, methods in part.items():
        yield ""
        for method, found in methods.items():
            values = ", ".join(
                f"{float(strength):g}: {np.mean(values):.2f}"
                for strength, values in found["validation"].items()
            )
            if method != BASELINE:
                yield f"- {protocol}, {method}: {values}"


def _long(long):
    for methods in long.values():
        tasks = len(next(iter(methods.values()))["curves"][0]["average"])
        seeds = len(next(iter(methods.values()))["runs"])
        yield f"## {tasks} tasks"
        yield ""
        yield f"{seeds} seeds; the rate restarted; see `continual_long.png`."
        yield ""
        yield from _table(methods)
        yield ""
        yield from _strengths({"restarted": methods})


# --- figures --------------------------------------------------------------------------------------


def plot_methods(result):
    """Average accuracy by method, each seed and the mean, for each protocol."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.8 + 3.6 * len(result["ten"]), 3.2), layout="constrained")
    grid = figure.subplots(1, len(result["ten"]), sharey=True, squeeze=False)
    for axes, (protocol, methods) in zip(grid.flat, result["ten"].items()):
        names = list(methods)[::-1]
        for place, name in enumerate(names):
            values = averages(methods, name)
            axes.plot(
                [values.min(), values.max()], [place] * 2, color=COLORS[name], lw=2, alpha=0.4
            )
            axes.plot(
                values, [place] * len(values), "o", color=COLORS[name], ms=3, alpha=0.5, mew=0
            )
            axes.plot(values.mean(), place, "D", color=COLORS[name], ms=6, mew=0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("average accuracy (%)")
        axes.set_title(f"rate {protocol}", fontsize=10)
        axes.grid(axis="x", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    words = f"{result['tasks']} tasks; each seed, and the mean of {len(result['seeds'])}"
    figure.suptitle(words, fontsize=10)
    return figure


def plot_matrices(methods):
    """Accuracy on each task after each task, mean over the seeds, by method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    for axes, (name, found) in zip(grid.flat, methods.items()):
        mean = matrix({"accuracies": found["mean_accuracies"]})
        image = axes.imshow(mean, cmap="Blues", vmin=20, vmax=90)
        axes.set_title(name, fontsize=10)
        axes.spines[:].set_visible(False)
        for row in range(len(mean)):
            for column in range(row + 1):
                value = mean[row, column]
                color = "white" if value > 62 else "#222222"
                text = f"{value:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=6)
    for axes in grid[-1]:
        axes.set_xlabel("accuracy on task")
    for axes in grid[:, 0]:
        axes.set_ylabel("after task")
    figure.colorbar(image, ax=grid, label="accuracy (%)", shrink=0.6)
    return figure


def plot_long(methods):
    """Average accuracy, forgetting and free capacity over many tasks: mean and range of seeds."""
    from matplotlib.figure import Figure

    titles = {"average": "average accuracy", "forgetting": "forgetting", "free": "free capacity"}
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3), titles.items()):
        for name, found in methods.items():
            if (key, name) == ("free", BASELINE):
                continue  # nothing is ever held
            values = np.array([curve[key] for curve in found["curves"]])
            after = np.arange(1, 1 + values.shape[1])
            color = COLORS[name]
            axes.fill_between(after, values.min(0), values.max(0), color=color, alpha=0.15, lw=0)
            axes.plot(after, values.mean(0), color=color, label=name)
        axes.set_title(f"{title} (%)", fontsize=10)
        axes.set_xlabel("tasks learned")
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def publish(result):
    """Add bars, print the page, write it, its JSON and the figures."""
    result["ten"] = summary(result["ten"])
    for methods in result["ten"].values():
        for found in methods.values():
            found.pop("curves")
    result["bars"] = bars(result["ten"])
    if result.get("long"):
        result["long"] = summary(result["long"])
        for methods in result["long"].values():
            for found in methods.values():
                found.pop("mean_accuracies")
    trials.publish(result, as_markdown)
    if not trials.FLAGS.write:
        return
    figures = {
        "continual": plot_methods(result),
        "continual_matrices": plot_matrices(next(iter(result["ten"].values()))),
    }
    for methods in (result.get("long") or {}).values():
        figures["continual_long"] = plot_long(methods)
    for name, figure in figures.items():
        write_figure(RESULTS / f"{name}.png", figure)
