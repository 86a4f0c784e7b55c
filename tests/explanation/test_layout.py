"""Boxes stand as near to where they would like to as they can without overlap."""

import itertools
import sys

import pytest

from resrep_keras.explanation.layout import GAP, Cell, _spread, place


def middles(wishes, weights=None):
    """Where cells of width 20 come to stand, by the definition: least squares, in order, apart."""
    row = [
        Cell(20.0, 0, name=None if weights is not None and weights[n] == 1 else "box")
        for n in range(len(wishes))
    ]
    _spread(row, list(wishes))
    return [cell.x for cell in row]


def test_cells_that_have_room_stand_where_they_wish():
    assert middles([0.0, 100.0, 200.0]) == pytest.approx([0, 100, 200])
    assert middles([7.0]) == [7.0]


def test_cells_that_wish_for_one_place_stand_around_it():
    apart = 20 + GAP
    assert middles([50.0] * 3) == pytest.approx([50 - apart, 50, 50 + apart])


def test_a_lane_gives_way_to_a_box():
    """A box weighs 50 times as much: the mean of both wishes lies next to that of the box."""
    apart = 20 + GAP
    lane, box = middles([0.0, 0.0], weights=[1, 50])
    assert box - lane == pytest.approx(apart)
    assert box == pytest.approx(apart / 51)


def test_no_two_overlap_whatever_they_wish():
    found = middles([30.0, -10.0, 500.0, 480.0, 481.0, 0.0])
    assert all(b - a >= 20 + GAP - 1e-9 for a, b in itertools.pairwise(found))


def test_rows_are_ordered_by_what_they_read():
    left, right = Cell(20.0, 0, name="left"), Cell(20.0, 0, name="right")
    first, second = Cell(20.0, 1, name="first"), Cell(20.0, 1, name="second")
    for box, reader in ((left, second), (right, first)):
        box.below.append(reader)
        reader.above.append(box)
    rows = [[left, right], [first, second]]
    place(rows)
    assert [cell.name for cell in rows[1]] == ["second", "first"]
    assert (second.x, first.x) == pytest.approx((left.x, right.x))


def test_without_scipy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r'needs scipy .*pip install "resrep-keras\[reports\]"'):
        middles([0.0, 0.0])
