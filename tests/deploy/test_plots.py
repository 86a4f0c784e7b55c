"""Figures: they take a report and return a Figure."""

import types

import numpy as np
import pytest

from resrep_keras.deploy.by_layer import LayerRow
from resrep_keras.deploy.plots import plot_layers, plot_search, plot_tasks, plot_widths
from resrep_keras.workflow.search import SearchResult, Trial


def report(**widths):
    macs = types.SimpleNamespace(name="MACs", ratio=0.4567)
    return types.SimpleNamespace(rows=(macs,), widths=widths)


def test_a_pair_of_bars_for_each_layer():
    (axes,) = plot_widths(report(first=(8, 3), second=(4, 4))).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    dense, slim = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert (dense, slim) == ([8, 4], [3, 4])
    assert axes.get_title() == "Widths before and after; 45.7 % of the MACs left"


@pytest.mark.filterwarnings("error")
def test_nothing_to_show_is_an_empty_figure():
    (axes,) = plot_widths(report()).axes
    assert not axes.get_yticklabels()


def test_a_panel_for_each_quantity_of_layers_in_units_that_are_read():
    rows = (
        LayerRow("first", "Conv2D", (8, 4), (4000, 2000), (0.02, 0.01)),
        LayerRow("second", "ReLU", (None, None), (None, None), (None, None)),
    )
    channels, macs, time = plot_layers(rows).axes
    labels = [axes.get_xlabel() for axes in (channels, macs, time)]
    assert labels == ["channels", "MACs (thousands)", "latency alone (µs)"]
    dense, slim = ([bar.get_width() for bar in bars] for bars in macs.containers)
    assert (dense, slim) == ([4, 0], [2, 0])
    assert [bar.get_width() for bar in time.containers[0]] == [pytest.approx(20), 0]
    assert time.get_legend() and not channels.get_legend()
    (only,) = plot_layers(rows[1:]).axes
    assert only.get_xlabel() == "channels"


TRIALS = (
    Trial(0.5, 0.48, 0.91, True),
    Trial(0.74, 0.25, 0.88, False),
    Trial(0.9, None, None, False),
)


@pytest.mark.filterwarnings("error")
def test_a_point_for_each_round_of_a_search_and_a_line_for_what_is_allowed():
    (axes,) = plot_search(SearchResult(None, 0.92, TRIALS, 1.5)).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn["dense, and the rounds accepted"] == [[100, 0.92], [48, 0.91]]
    assert drawn["too low"] == [[25, 0.88]]
    assert drawn["lowest that is allowed"] == [[0, pytest.approx(0.905)], [1, pytest.approx(0.905)]]
    assert drawn["out of reach"] == [[pytest.approx(10), 0]]
    assert [text.get_text() for text in axes.texts] == ["1", "2"]


def result(tasks):
    """Of tasks that were learned with 80 % and lost a point with each later one."""
    distance = np.subtract.outer(np.arange(tasks), np.arange(tasks))
    over = {
        "average_accuracy": np.linspace(0.8, 0.7, tasks),
        "learning_accuracy": np.full(tasks, 0.8),
        "forgetting": np.linspace(0, 0.2, tasks),
    }
    return types.SimpleNamespace(
        accuracies=np.where(distance >= 0, 0.8 - 0.01 * distance, np.nan),
        free_capacity=np.linspace(0.5, 0.25, tasks),
        over_tasks=lambda: over,
    )


def test_a_number_in_each_cell_of_the_heat_map_and_a_curve_for_each_quantity():
    heat_map, curves, _ = plot_tasks(result(3)).axes
    cells = {text.get_position(): text.get_text() for text in heat_map.texts}
    assert cells == {(c, r): f"{80 - (r - c)}" for r in range(3) for c in range(r + 1)}
    drawn = {line.get_label(): list(line.get_ydata()) for line in curves.lines}
    assert drawn["average accuracy"] == pytest.approx([80, 75, 70])
    assert drawn["forgetting"] == pytest.approx([0, 10, 20])
    assert drawn["free capacity"] == pytest.approx([50, 37.5, 25])
    assert drawn["accuracy when learned"] == pytest.approx([80, 80, 80])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("tasks", [1, 50])
def test_of_one_task_and_of_many(tasks):
    heat_map, _, _ = plot_tasks(result(tasks)).axes
    assert len(heat_map.texts) == (tasks == 1)  # too small to be read
