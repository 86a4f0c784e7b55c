"""Figures of runs. Each function returns a matplotlib Figure, and neither shows nor saves it."""

from resrep_keras.deploy.plots import BLUE, GREEN, GREY, ORANGE, beside, plain

COLOURS = (BLUE, ORANGE, GREEN, "#8a5fb0", "#b08a2e", "#3d9a9a", "#b5527a", "#7a7a7a")
MARKERS = "osD^vP*X"


def plot_norms(log):
    """The norms of compactor columns over a run: those that remember, those that forget.

    Args:
        log: A `resrep_keras.methods.pruning_log.PruningLog`.

    Returns:
        A `matplotlib.figure.Figure`: bands of the norms above, numbers of channels below.
    """
    from matplotlib.figure import Figure

    entries = log.with_norms
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _bands(upper, entries, "kept", BLUE, "remember")
    _bands(upper, entries, "masked", ORANGE, "masked: forget")
    upper.set_ylabel("norm of column (1 = start)")
    largest = max((max(e.norms.kept, default=0) for e in entries), default=0)
    upper.set_ylim(0, 1.08 * max(1, largest))
    steps = [entry.step for entry in entries]
    counts = [(e.norms.num_kept, e.norms.num_masked, e.norms.num_zero) for e in entries]
    words = ("remember", "being forgotten", "zero or gone")
    colours = (BLUE, ORANGE, GREY)
    if entries:
        lower.stackplot(steps, *zip(*counts), labels=words, colors=colours, step="post")
    lower.set_ylabel("channels")
    lower.set_xlabel(log.counts)
    for axes in (upper, lower):
        plain(axes)
        beside(axes)
    return figure


def _bands(axes, entries, part, colour, words):
    """The median, the middle 80 %, and all."""
    pairs = [(entry.step, vars(entry.norms)[part]) for entry in entries]
    pairs = [(step, quantiles) for step, quantiles in pairs if quantiles]
    if not pairs:
        return
    steps, quantiles = zip(*pairs)
    least, low, median, high, most = zip(*quantiles)
    axes.fill_between(steps, least, most, color=colour, alpha=0.15, lw=0, label=f"{words}: all")
    axes.fill_between(steps, low, high, color=colour, alpha=0.3, lw=0, label=f"{words}: 80 %")
    axes.plot(steps, median, color=colour, lw=1.6, label=f"{words}: median")


def plot_progress(log):
    """What was logged over a run: losses, metrics, and the shares of costs that are left.

    Args:
        log: A `resrep_keras.methods.pruning_log.PruningLog`.

    Returns:
        A `matplotlib.figure.Figure`, a panel for each kind.
    """
    from matplotlib.figure import Figure

    names = [name for name in log.names() if name != "learning_rate"]
    kinds = {"loss": [], "metric": [], "left (%)": []}
    for name in names:
        kind = "loss" if name.endswith("loss") else "metric"
        kinds["left (%)" if name.endswith("_left") else kind].append(name)
    kinds = {kind: found for kind, found in kinds.items() if found} or {"metric": []}
    figure = Figure(figsize=(8.5, 0.6 + 2.1 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (kind, found) in zip(panels, kinds.items()):
        scale = 100 if kind == "left (%)" else 1
        for name in found:
            steps, values = log.curve(name)
            style = "-" if name.startswith("val_") or kind == "left (%)" else "--"
            colour = COLOURS[_place(found, name) % len(COLOURS)]
            shown = [scale * value for value in values]
            axes.plot(steps, shown, style, color=colour, marker="o", ms=2.5, lw=1.4, label=name)
        axes.set_ylabel(kind)
        if scale == 100:
            axes.set_ylim(0, 105)
        plain(axes)
        beside(axes)
    panels[-1].set_xlabel(log.counts)
    return figure


def _place(names, name):
    """A number that a metric has in common with the same one on validation data."""
    bases = list(dict.fromkeys(each.removeprefix("val_") for each in names))
    return bases.index(name.removeprefix("val_"))


def plot_runs(series, metric):
    """Quality against cost.

    Args:
        series: ``{name: pairs (share of the dense MACs that is left, quality)}``.
        metric: What the quality is called.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, (name, pairs) in enumerate(series.items()):
        left, quality = zip(*sorted(pairs)) if pairs else ((), ())
        axes.plot(
            [100 * share for share in left],
            quality,
            MARKERS[number % len(MARKERS)],
            ls="-" if len(set(left)) > 1 else "",
            color=GREY if name == "dense" else COLOURS[number % len(COLOURS)],
            lw=1.2,
            ms=6,
            label=name,
        )
    axes.set_xlim(102, 0)
    axes.set_xlabel("MACs left (%)")
    axes.set_ylabel(metric)
    plain(axes)
    beside(axes)
    return figure
