"""draw(graph): the calls of a model and the channels that flow between them, as SVG text.

`resrep_keras.explanation.layout` says where the boxes stand.
"""

import colorsys
import dataclasses
import math
import re
from xml.sax.saxutils import escape, quoteattr

import keras
import numpy as np

from resrep_keras.explanation.layout import BOX, HEADER, PITCH, Cell, Look, place, rows_of

MARGIN, LINE = 20, 21
GREY = ("#f1f2f4", "#8a8f98")
RED = "#c62828"
LIGHTNESS = (0.84, 0.73, 0.92)
MOST_CHARACTERS = 34
MOST_STRIPES = 12


def draw(graph):
    """Draw the calls of a model and the channel groups between them.

    Args:
        graph: A `ChannelGraph`.

    Returns:
        The text of an SVG file. Each call is a box in the colour of the channel group that leaves
        it, grey where no channel may go; a thick border stands for coupled channels, red dashes
        for pinned ones. Boxes have tooltips.

    Example:

    >>> pathlib.Path("model.svg").write_text(draw(resrep_keras.trace(model)), encoding="utf-8")
    """
    boxes = _boxes(graph)
    rows = rows_of(boxes)
    place(rows)
    legend, left, depth = _legend(graph)
    cells = [cell for row in rows for cell in row]
    shift = left - min((cell.x - cell.width / 2 for cell in cells), default=0)
    for cell in cells:
        cell.x += shift
    width = max((cell.x + cell.width / 2 for cell in cells), default=left) + MARGIN
    height = max(HEADER + len(rows) * PITCH, depth) + MARGIN
    body = [_line(box) for box in boxes if box.below] + [_box(box) for box in boxes]
    return _document(graph, width, height, [_stripes(boxes), *legend, *body])


# --- what is drawn -------------------------------------------------------------------------------


class _Looks:
    """Reads the channels of tensors off a graph."""

    def __init__(self, graph):
        self._graph = graph
        self._owner = np.full(graph.num_channels + 1, -1)
        for position, group in enumerate(graph.groups):
            self._owner[group.channels] = position
        self._pins = {}
        for pin in graph.pins:
            self._pins.setdefault(pin.layer, []).append(pin)

    def of(self, name, flows, inside=()):
        """The `Look` of a call that makes or passes on `flows` and holds labels `inside`."""
        groups = self._groups(flow.labels for flow in flows)
        pins = [f"pins channels: {pin.text}" for pin in self._pins.get(name, ())]
        notes = [f"holds {_words(self._graph.groups[p])}" for p in self._groups(inside)]
        for position in groups:
            group = self._graph.groups[position]
            notes.append(f"carries {_words(group)}")
            if not group.prunable:
                pins.append(f"pinned by {group.pinned_by}")
            elif group.pinned.any():
                pins.append(f"{group.pinned.sum()} channels of {group.name} are pinned")
        return Look(
            groups=tuple(p for p in groups if self._graph.groups[p].prunable),
            coupled=any(self._graph.groups[p].coupled for p in groups),
            pins=tuple(dict.fromkeys(pins)),
            notes=tuple(notes),
        )

    def _groups(self, labels):
        """Positions of the groups in order of their channels."""
        ids = [self._graph.channel_of[array].ravel() for array in labels]
        owners = self._owner[np.concatenate([*ids, np.zeros(0, np.int64)]).astype(np.int64)]
        found, first = np.unique(owners, return_index=True)
        return [int(p) for p in found[np.argsort(first)] if p >= 0]


def _words(group):
    words = f"the {group.size} channels of {group.name}"
    others = len(group.producers) - 1
    if group.coupled:
        words += f", coupled with {others} other{'s' * (others > 1)}"
    return words + (f", inexact: {group.inexact}" if group.inexact else "")


def _boxes(graph):
    """Inputs, calls and outputs in topological order, linked by `above` and `below`."""
    looks = _Looks(graph)
    made = {id(tensor): _port(tensor.name, "input", tensor, Look()) for tensor in _inputs(graph)}
    inputs = list(made.values())
    boxes = list(inputs)
    for call in graph.calls:
        look = looks.of(call.name, call.outputs, call.inside.values())
        note = f"{type(call.operation).__name__} {_size(call.output_shape)}"
        boxes.append(_new(call.name, note, "call", look))
        _link([made[key] for key in call.input_ids], boxes[-1])
        made.update(dict.fromkeys(call.output_ids, boxes[-1]))
    for tensor in _ends(graph)[1]:
        look = dataclasses.replace(made[id(tensor)].look, notes=(), pins=())
        boxes.append(_port("output", "output", tensor, look))
        _link([made[id(tensor)]], boxes[-1])
    for box in inputs:  # an input that is read late stands where it is read
        box.row = min((other.row for other in box.below), default=1) - 1
    return boxes


def _ends(graph):
    """The inputs and the outputs of the model."""
    if graph.recording is None:
        return [], []
    return tuple(map(keras.tree.flatten, (graph.recording.inputs, graph.recording.outputs)))


def _inputs(graph):
    """The inputs of the model, and whatever else calls read and no call makes."""
    made = {key for call in graph.calls for key in call.output_ids}
    read = [tensor for call in graph.calls for tensor in call.tensors[0]]
    known = {id(tensor): tensor for tensor in [*_ends(graph)[0], *read]}
    return [tensor for key, tensor in known.items() if key not in made]


def _port(name, kind, tensor, look):
    return _new(name, f"{kind} {_size(tensor.shape)}", "port", look)


def _new(name, note, kind, look):
    longest = max(6.8 * len(_short(name)), 5.6 * len(_short(note)))
    return Cell(width=longest + 20, row=0, kind=kind, name=name, note=note, look=look)


def _link(sources, target):
    for source in dict.fromkeys(sources):
        source.below.append(target)
        target.above.append(source)
        target.row = max(target.row, source.row + 1)


def _size(shape):
    return "x".join("?" if size is None else str(size) for size in shape[1:])


# --- how it is drawn -----------------------------------------------------------------------------


def _colours(position):
    """Fill and stroke of a group: hues a golden ratio apart, and another lightness every 8."""
    hue = (0.58 + position * (math.sqrt(5) - 1) / 2) % 1
    light = LIGHTNESS[position // 8 % len(LIGHTNESS)]
    colours = (colorsys.hls_to_rgb(hue, *shade) for shade in ((light, 0.62), (0.38, 0.60)))
    return tuple("#" + "".join(f"{round(255 * part):02x}" for part in c) for c in colours)


def _fill(look):
    if len(look.groups) > 1:
        return f"url(#{_stripe_id(look.groups)})"
    return _colours(look.groups[0])[0] if look.groups else GREY[0]


def _stroke(look):
    return _colours(look.groups[0])[1] if len(look.groups) == 1 else GREY[1]


def _border(look):
    """The attributes of a box's border."""
    width = 3 if look.coupled else 1.8 if look.pins else 1.2
    if look.pins:
        return f'stroke="{RED}" stroke-width="{width}" stroke-dasharray="6 3"'
    return f'stroke="{_stroke(look)}" stroke-width="{width}"'


def _stripe_id(groups):
    return "stripes-" + "-".join(map(str, groups[:MOST_STRIPES]))


def _stripes(boxes):
    """Fills for boxes that several groups leave: one stripe for each."""
    made = {}
    for groups in dict.fromkeys(box.look.groups for box in boxes if len(box.look.groups) > 1):
        shown = groups[:MOST_STRIPES]
        stops = []
        for i, position in enumerate(shown):
            colour = f'stop-color="{_colours(position)[0]}"'
            ends = (i / len(shown), (i + 1) / len(shown))
            stops += [f'<stop offset="{end:.4f}" {colour}/>' for end in ends]
        name = _stripe_id(groups)
        made[name] = f'<linearGradient id="{name}">{"".join(stops)}</linearGradient>'
    return f"<defs>{''.join(made.values())}</defs>"


def _box(box):
    middle, look = f"{box.x:.1f}", box.look
    title = "\n".join([f"{box.name}: {box.note}", *look.notes, *look.pins])
    return (
        f'<g class="{box.kind}" data-name={quoteattr(_clean(box.name))}>'
        f"<title>{_text(title)}</title>"
        f'<rect x="{box.x - box.width / 2:.1f}" y="{box.top}" width="{box.width:.1f}" '
        f'height="{BOX}" rx="{BOX // 2 if box.kind == "port" else 6}" '
        f'fill="{_fill(look)}" {_border(look)}/>'
        f'<text x="{middle}" y="{box.top + 15}">{_text(_short(box.name))}</text>'
        f'<text class="note" x="{middle}" y="{box.top + 27}">{_text(_short(box.note))}</text></g>'
    )


def _line(box):
    """All lines that leave a box, along its lanes."""
    parts, todo = [], [box]
    while todo:
        cell = todo.pop()
        for other in cell.below:
            middle = (cell.bottom + other.top) / 2
            parts.append(f"M{cell.x:.1f},{cell.bottom}C{cell.x:.1f},{middle} ")
            parts.append(f"{other.x:.1f},{middle} {other.x:.1f},{other.top}")
            if other.name is None:
                parts.append(f"V{other.bottom}")
                todo.append(other)
    return f'<path class="line" stroke="{_stroke(box.look)}" d="{"".join(parts)}"/>'


def _legend(graph):
    """The legend's elements, where the graph may begin, and the height that it takes."""
    pinned, coupled = Look(pins=("pinned",)), Look(coupled=True)
    entries = [
        (Look(), "no channels that may go"),
        (coupled, "thick border: coupled, all layers lose the same"),
        (pinned, "red dashes: pins or is pinned, see the tooltip"),
    ]
    if any(group.prunable for group in graph.groups):
        entries.append((None, "channel groups that may go:"))
    for position, group in enumerate(graph.groups):
        if group.prunable:
            look = Look((position,), group.coupled, ("pinned",) * bool(group.pinned.any()))
            layers = len(group.producers)
            more = f", {layers} layers" if layers > 1 else ""
            entries.append((look, f"{_short(group.name)}: {group.size} channels{more}"))
    parts, y = [], HEADER
    for look, words in entries:
        if look is not None:
            place = f'x="{MARGIN}" y="{y}" width="26" height="14" rx="4"'
            parts.append(f'<rect {place} fill="{_fill(look)}" {_border(look)}/>')
        x = MARGIN if look is None else MARGIN + 36
        parts.append(f'<text class="key" x="{x}" y="{y + 11}">{_text(words)}</text>')
        y += LINE
    left = MARGIN + 36 + 6.1 * max(len(words) for _, words in entries) + 2 * MARGIN
    return [f'<g class="legend">{"".join(parts)}</g>'], left, y


# Within one class: a page that holds the picture keeps its own style.
STYLE = (
    ".graph text{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:11px;"
    "fill:#1c1e21;text-anchor:middle}.graph .note{font-size:9px;fill:#4a4e55}"
    ".graph .key{font-size:10px;text-anchor:start}"
    ".graph .head{font-size:13px;font-weight:bold;text-anchor:start}"
    ".graph .line{fill:none;stroke-width:1.6}"
)


def _document(graph, width, height, parts):
    name = graph.recording.name if graph.recording is not None else "model"
    groups = sum(group.prunable for group in graph.groups)
    head = f"{name}: {len(graph.calls)} calls, {groups} channel groups that may go"
    width, height = math.ceil(max(width, 2 * MARGIN + 8.2 * len(head))), math.ceil(height)
    return "\n".join(
        [
            f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" '
            f'width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">',
            f"<title>{_text(head)}</title><style>{STYLE}</style>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
            f'<text class="head" x="{MARGIN}" y="{MARGIN + 6}">{_text(head)}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _short(text):
    """A text of limited length: what is cut off is the middle, since names end in numbers."""
    if len(text) <= MOST_CHARACTERS:
        return text
    half = (MOST_CHARACTERS - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _clean(text):
    """The text without characters that XML does not allow."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def _text(text):
    return escape(_clean(text))
