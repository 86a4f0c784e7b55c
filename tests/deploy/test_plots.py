"""Figures: they take a report and return a Figure."""

import types

import pytest

from resrep_keras.deploy.plots import plot_widths


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
