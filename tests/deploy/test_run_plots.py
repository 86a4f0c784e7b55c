"""Figures of runs, and what is written beside their data."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from resrep_keras.deploy.run_plots import plot_norms, plot_progress, plot_runs
from resrep_keras.methods.pruning_log import Norms, PruningLog

pytestmark = pytest.mark.filterwarnings("error")


def log():
    made = PruningLog()
    start = (1.0,) * 5
    made.add(0, None, {"macs_left": 1.0}, Norms(start, (), 10, 0, 0))
    half = (0.1, 0.2, 0.3, 0.4, 0.5)
    made.add(4, None, {"macs_left": 0.7}, Norms(start, half, 7, 3, 0))
    values = {"loss": 2.0, "val_loss": 2.5, "accuracy": 0.8, "macs_left": 0.7, "learning_rate": 0.1}
    made.add(8, 1, values, Norms((0.9, 1, 1.1, 1.2, 1.3), (0.0,) * 5, 7, 0, 3))
    return made


def beside(axes):
    """Whether the legend stands to the right of the data."""
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw(renderer)
    return axes.get_legend().get_window_extent(renderer).x0 >= axes.get_window_extent().x1


def test_norms_of_those_that_remember_and_those_that_forget():
    upper, lower = plot_norms(log()).axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in upper.lines}
    assert lines["remember: median"] == [[0, 1], [4, 1], [8, 1.1]]
    assert lines["masked: forget: median"] == [[4, 0.3], [8, 0]]
    assert upper.get_ylabel() == "norm of column (1 = start)"
    assert (lower.get_xlabel(), lower.get_ylabel()) == ("training step", "channels")
    assert [text.get_text() for text in lower.get_legend().texts] == [
        "remember",
        "being forgotten",
        "zero or gone",
    ]
    assert beside(upper) and beside(lower)


def test_a_panel_for_losses_metrics_and_costs():
    losses, metrics, left = plot_progress(log()).axes
    assert [line.get_label() for line in losses.lines] == ["loss", "val_loss"]
    assert losses.lines[0].get_color() == losses.lines[1].get_color()
    assert [line.get_label() for line in metrics.lines] == ["accuracy"]
    assert left.lines[0].get_xydata().tolist() == [[0, 100], [4, 70], [8, 70]]
    assert left.get_ylabel() == "left (%)" and left.get_xlabel() == "training step"
    assert all(map(beside, (losses, metrics, left)))


def test_of_nothing_recorded():
    assert len(plot_norms(PruningLog()).axes) == 2
    assert len(plot_progress(PruningLog()).axes) == 1


def test_quality_against_cost():
    (axes,) = plot_runs({"dense": [(1.0, 0.9)], "a": [(0.5, 0.8), (0.25, 0.7)]}, "accuracy").axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["a"].get_xydata().tolist() == [[25, 0.7], [50, 0.8]]
    assert lines["a"].get_linestyle() == "-" and lines["dense"].get_linestyle() == "None"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("MACs left (%)", "accuracy")
    assert beside(axes)
    assert plot_runs({"none": []}, "accuracy").axes
