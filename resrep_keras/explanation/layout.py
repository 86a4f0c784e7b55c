"""Where the boxes of a picture stand: in rows, without a line through a box.

A box stands one row below the last that leads to it. What is read further down gets a *lane*, a
narrow cell in each row that it passes. Boxes and lanes are ordered and placed by the mean of their
neighbours.
"""

import dataclasses

BOX, PITCH, GAP, LANE = 34, 62, 16, 8  # height of a box, distance of rows, spaces, width of a lane
HEADER = 44
MOST_LANES = 20_000  # beyond that, lines are drawn straight: the time to place lanes is bounded
SWEEPS = 9  # odd: the last one goes down, so that what is read in line stands in line


@dataclasses.dataclass(frozen=True)
class Look:
    """How the channels of a tensor are shown.

    Args:
        groups: Positions of the groups whose channels may go.
        coupled: Whether any of the groups is coupled.
        pins: The reasons why channels are kept.
        notes: Lines of the tooltip.
    """

    groups: tuple = ()
    coupled: bool = False
    pins: tuple = ()
    notes: tuple = ()


@dataclasses.dataclass(eq=False)
class Cell:
    """A box, or a part of a lane where `name` is `None`.

    Args:
        width: Its width, in pixels.
        row: Its row, from 0.
        kind: "call" or "port", an input or output of the model.
        name, note: The two lines of text in a box.
        look: Its `Look`.
        x: The middle, in pixels.
        above, below: The cells that a line leads to.
    """

    width: float
    row: int
    kind: str = "lane"
    name: str | None = None
    note: str = ""
    look: Look = Look()
    x: float = 0.0
    above: list = dataclasses.field(default_factory=list, repr=False)
    below: list = dataclasses.field(default_factory=list, repr=False)

    @property
    def top(self):
        return HEADER + self.row * PITCH

    @property
    def bottom(self):
        return self.top + BOX


def rows_of(boxes):
    """The cells of each row; what is read further down goes there along a lane."""
    rows = [[] for _ in range(1 + max((box.row for box in boxes), default=-1))]
    for box in boxes:
        rows[box.row].append(box)
    free = MOST_LANES
    for box in sorted(boxes, key=_reach):
        free -= _reach(box)
        if _reach(box) and free >= 0:
            _lead(box, rows)
    return rows


def _reach(box):
    """The number of rows that lie between a box and the last that reads it."""
    return max((other.row for other in box.below), default=box.row + 1) - box.row - 1


def _lead(box, rows):
    """Put a lane between a box and those of its readers that are further down."""
    far = sorted((other for other in box.below if other.row > box.row + 1), key=lambda c: c.row)
    box.below = [other for other in box.below if other.row == box.row + 1]
    end = box
    for reader in far:
        while end.row < reader.row - 1:
            lane = Cell(width=LANE, row=end.row + 1, look=box.look, above=[end])
            rows[lane.row].append(lane)
            end.below.append(lane)
            end = lane
        end.below.append(reader)
        reader.above[reader.above.index(box)] = end


def place(rows):
    """Order and place each row by the neighbours above, then below, and so on."""
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wishes = {id(cell): _wish(cell, cell.above if down else cell.below) for cell in row}
            row.sort(key=lambda cell: wishes[id(cell)])
            _spread(row, [wishes[id(cell)] for cell in row])


def _wish(cell, near):
    """Where a cell would like to stand: in line with boxes, so that lanes give way to them."""
    near = [other for other in near if other.name is not None] or near
    return sum(other.x for other in near) / len(near) if near else cell.x


def _spread(row, wishes):
    """Place cells in their order, without overlap, as near to `wishes` as possible.

    Less the space that the cells to the left take up, the places must not fall from left to right.
    """
    taken, offset = [], 0.0
    for cell, left in zip(row, [None, *row]):
        offset += 0.0 if left is None else (cell.width + left.width) / 2 + GAP
        taken.append(offset)
    weights = [1.0 if cell.name is None else 50.0 for cell in row]
    places = _rising([wish - offset for wish, offset in zip(wishes, taken)], weights)
    for cell, place, offset in zip(row, places, taken):
        cell.x = place + offset


def _rising(values, weights):
    """The nearest values, by weighted squares, that do not fall: an isotonic regression."""
    if len(values) < 2:
        return values
    try:
        from scipy.optimize import isotonic_regression
    except ImportError as error:
        raise ImportError(
            f"A picture of a model needs scipy 1.12 or newer ({error}): pip install "
            '"resrep-keras[reports]".'
        ) from error
    return isotonic_regression(values, weights=weights).x.tolist()
