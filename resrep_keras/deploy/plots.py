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
