"""explain(model): which channels can be pruned, which cannot, and why."""

import dataclasses
import json
import textwrap

import numpy as np

from resrep_keras.common.files import write_text
from resrep_keras.costs.budget import removable
from resrep_keras.costs.macs import MacCost
from resrep_keras.explanation.picture import draw
from resrep_keras.explanation.remedies import remedy
from resrep_keras.graph.trace import trace

WIDTH = 118  # of a printed line
MOST_NAME = 40


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` has found out; `print` it, or see `to_json` and `to_svg`.

    Args:
        rows: One dict for each layer that makes channels: `layer`, `channels`, `prunable` (how
            many of them may go), `status` ("prunable", "coupled", "follows" or "pinned"), `group`,
            `coupled`, `partners` (the layers that it is coupled with), `followers` (those that
            scale its channels), `follows` (the layer whose channels it scales), `pinned_by`,
            `reason` and `remedy` of pinned channels, and `inexact` (why removing channels changes
            outputs). What does not apply is `None`.
        pins: One dict for each place that pins channels: `layer`, `channels` (how many it keeps
            first of all), `reasons` and `remedies`.
        totals: Counts over all rows: `layers`, `channels`, `prunable` (on their own), `coupled`
            (with ``coupled=True``), `pinned`, `inexact`, and their `shares`. Further `macs` of
            the model, `macs_reachable` (the share that is spent on channels that may go), and by
            setting `floor_macs` (what is left where each layer keeps one channel) and
            `largest_target_reduction`. Costs are `None` where sizes are unknown; `macs_unknown`
            then says which.
        graph: The `ChannelGraph`.
    """

    rows: tuple
    pins: tuple
    totals: dict
    graph: object = dataclasses.field(repr=False, compare=False)

    def __str__(self):
        return "\n".join([*_table(self.rows), "", *_sentences(self.totals), *_listed(self.pins)])

    def to_json(self, path=None):
        """Return the explanation as a JSON text, and write it to `path` where given.

        Args:
            path: File to write; what stands there is replaced. Defaults to none.

        Returns:
            A JSON text with `rows`, `pins` and `totals`.

        Raises:
            OSError: The file cannot be written.

        Example:

        >>> rows = json.loads(resrep_keras.explain(model).to_json())["rows"]
        """
        parts = {"rows": self.rows, "pins": self.pins, "totals": self.totals}
        return _written(json.dumps(parts, indent=1), path)

    def to_svg(self, path=None):
        """Return a picture of the model's calls and channel groups, and write it to `path`.

        Args:
            path: File to write; what stands there is replaced. Defaults to none.

        Returns:
            The text of an SVG file; see `resrep_keras.explanation.picture.draw`.

        Raises:
            OSError: The file cannot be written.

        Example:

        >>> resrep_keras.explain(model).to_svg("model.svg")
        """
        return _written(draw(self.graph), path)


def explain(model, input_shape=None, exact=True):
    """Say for each layer whether its channels can be pruned, and if not, which node keeps them.

    Use it before training: it runs no data, changes nothing, and says how much can be removed.

    Args:
        model: A built `keras.Model`; see `trace`.
        input_shape: Shape without the batch axis, for a model with unknown sizes. Defaults to the
            model's own.
        exact: Whether to pin channels whose removal changes outputs, because something is computed
            over all channels together (layer normalisation). Defaults to `True`.

    Returns:
        An `Explanation`: a table to print, a JSON text and a picture.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without a graph (never built, or of a subclass that only runs on arrays).

    Example:

    >>> explanation = resrep_keras.explain(keras.applications.ResNet50(weights=None))
    >>> print(explanation)
    >>> explanation.totals["largest_target_reduction"]
    """
    graph = trace(model, input_shape, exact)
    rows = [_row(group, producer) for group in graph.groups for producer in group.producers]
    totals = {**_counts(rows), **_costs(graph)}
    return Explanation(tuple(rows), tuple(_pins(graph, rows)), totals, graph)


# --- rows and pins -------------------------------------------------------------------------------


def _row(group, producer):
    goes = group.prunable
    kept = dict(zip(group.channels.tolist(), group.pinned.tolist()))
    node, reason = _first_pin(group, producer) if goes else group.pinned_by
    others = [other for other in group.producers if other is not producer]
    leaders = [other.name for other in others if not other.follows]
    return {
        "layer": producer.name,
        "channels": len(producer.channels),
        "prunable": sum(not kept[c] for c in producer.channels.tolist()) if goes else 0,
        "status": _status(group, producer),
        "group": group.name,
        "coupled": group.coupled,
        "partners": [] if producer.follows else leaders,
        "followers": [] if producer.follows else [o.name for o in others if o.follows],
        "follows": next(iter(leaders), group.name) if producer.follows else None,
        "pinned_by": node,
        "reason": reason,
        "remedy": None if reason is None else remedy(reason),
        "inexact": group.inexact if goes else None,
    }


def _first_pin(group, producer):
    """The node and reason that keep some channels of a layer whose others may go."""
    own = set(producer.channels.tolist())
    reasons = zip(group.channels.tolist(), group.reasons)
    found = next((why for channel, why in reasons if why and channel in own), None)
    return (None, None) if found is None else tuple(found.split(": ", 1))


def _status(group, producer):
    if not group.prunable:
        return "pinned"
    if producer.follows:
        return "follows"
    return "coupled" if group.coupled else "prunable"


def _pins(graph, rows):
    """Each node that pins channels, once: those of the graph, then what only a row names."""
    kept, reasons = {}, {}
    for row in rows:
        if row["pinned_by"] is not None:
            pinned = row["channels"] - row["prunable"]
            kept[row["pinned_by"]] = kept.get(row["pinned_by"], 0) + pinned
    named = [(row["pinned_by"], row["reason"]) for row in rows if row["pinned_by"] is not None]
    for name, reason in dict.fromkeys([*graph.pins, *named]):
        reasons.setdefault(name, []).append(reason)
    for name, found in reasons.items():
        yield {
            "layer": name,
            "channels": kept.get(name, 0),
            "reasons": found,
            "remedies": list(dict.fromkeys(map(remedy, found))),
        }


# --- totals --------------------------------------------------------------------------------------


def _counts(rows):
    channels = sum(row["channels"] for row in rows)
    free = {
        coupled: sum(row["prunable"] for row in rows if row["coupled"] == coupled)
        for coupled in (False, True)
    }
    counts = {
        "prunable": free[False],
        "coupled": free[True],
        "pinned": channels - free[False] - free[True],
        "inexact": sum(row["prunable"] for row in rows if row["inexact"] is not None),
    }
    shares = {name: count / max(channels, 1) for name, count in counts.items()}
    return {"layers": len(rows), "channels": channels, **counts, "shares": shares}


def _costs(graph):
    """The MACs of the model, and how far they can fall."""
    settings = {"coupled=False": False, "coupled=True": True}
    try:
        cost = MacCost(graph)
    except ValueError as error:
        names = ("macs", "macs_reachable", "floor_macs", "largest_target_reduction")
        return {**dict.fromkeys(names), "macs_unknown": str(error)}
    dense = cost()
    floors = {name: _floor(graph, cost, coupled) for name, coupled in settings.items()}
    kept = np.ones(graph.num_channels, bool)
    for group in filter(lambda g: g.prunable, graph.groups):
        kept[group.channels[~group.pinned]] = False
    return {
        "macs": dense,
        "macs_reachable": (dense - cost(kept)) / max(dense, 1),
        "floor_macs": floors,
        # In integers, so that the last digit is rounded down and never up.
        "largest_target_reduction": {
            name: (dense - floor) * 10_000 // max(dense, 1) / 10_000
            for name, floor in floors.items()
        },
        "macs_unknown": None,
    }


def _floor(graph, cost, coupled):
    """MACs that are left where each layer that may be pruned keeps one channel."""
    groups = [group for group in graph.groups if group.prunable and (coupled or not group.coupled)]
    kept = np.ones(graph.num_channels, bool)
    kept[removable(groups, np.zeros(graph.num_channels))[0]] = False
    return cost(kept)


# --- words ---------------------------------------------------------------------------------------


def _table(rows):
    """One line for each row, aligned, with a note that is cut off where it is long."""
    width = min(MOST_NAME, max([len("layer"), *(len(row["layer"]) for row in rows)]))
    lines = [f"{'layer':{width}}  channels  prunable  status    note"]
    for row in rows:
        start = (
            f"{_cut(row['layer'], width, 18):{width}}  {row['channels']:>8}  {row['prunable']:>8}  "
            f"{row['status']:8}  "
        )
        lines.append((start + _cut(_note(row), WIDTH - len(start))).rstrip())
    return lines


def _note(row):
    """What there is to say of a layer, on one line."""
    notes = []
    if row["inexact"] is not None:
        notes.append(f"inexact: {row['inexact']}")
    if row["status"] == "pinned":
        notes.append(f"{row['pinned_by']}: {row['reason']}")
    else:
        if row["prunable"] < row["channels"]:
            pinned = row["channels"] - row["prunable"]
            notes.append(f"{pinned} are kept by {row['pinned_by']}: {row['reason']}")
        if row["follows"] is not None:
            notes.append(f"the channels of {row['follows']}, which it scales")
        for word, others in (("with", row["partners"]), ("followed by", row["followers"])):
            if others:
                notes.append(f"{word} {', '.join(others)}")
    return " ".join("; ".join(notes).split())


def _cut(text, width, tail=0):
    """The text, or its start and the last `tail` characters with dots between them."""
    if len(text) <= width:
        return text
    return f"{text[: width - 3 - tail]}...{text[len(text) - tail :]}"


def _sentences(totals):
    if not totals["channels"]:
        return ["The model has no layer that makes channels."]
    shares = {name: f"({100 * share:.1f} %)" for name, share in totals["shares"].items()}
    words = (
        f"The {totals['layers']} layers make {totals['channels']:,} channels. "
        f"{totals['prunable']:,} {shares['prunable']} can be pruned on their own, "
        f"{totals['coupled']:,} {shares['coupled']} more with coupled=True; "
        f"{totals['pinned']:,} {shares['pinned']} are pinned."
    )
    if totals["inexact"]:
        words += (
            f" Removing {totals['inexact']:,} {shares['inexact']} of the channels changes outputs, "
            "which exact=False allows."
        )
    return _wrapped(words) + _wrapped(_cost_words(totals))


def _cost_words(totals):
    if totals["macs"] is None:
        return (
            "The MACs, and how far they can fall, are unknown: input_shape is needed. "
            f"{totals['macs_unknown']}"
        )
    largest = {
        name: f"{share:.4f}" if share else "0 (nothing may go)"
        for name, share in totals["largest_target_reduction"].items()
    }
    return (
        f"One forward pass takes {totals['macs']:,} MACs, {100 * totals['macs_reachable']:.1f} % of "
        "them on channels that may go. With one channel left in each layer, the largest "
        f"target_reduction is {largest['coupled=False']} with coupled=False and "
        f"{largest['coupled=True']} with coupled=True."
    )


def _listed(pins):
    """The pinning nodes; those that pin for the same reasons stand together."""
    alike = {}
    for pin in pins:
        alike.setdefault((*pin["reasons"], *pin["remedies"]), []).append(pin)
    lines = ["", "Channels are pinned by:"] if pins else []
    for same in alike.values():
        names = ", ".join(pin["layer"] for pin in same)
        count = sum(pin["channels"] for pin in same)
        channels = f"{count:,} channel{'s' * (count != 1)}" if count else "no further channels"
        lines += _wrapped(f"{names} ({channels}): {'; '.join(same[0]['reasons'])}", "- ")
        lines += _wrapped(f"remedy: {' '.join(same[0]['remedies'])}", "  ")
    return lines


def _wrapped(text, start=""):
    indent = {"initial_indent": start, "subsequent_indent": " " * len(start)}
    # A name stays whole, however long it is.
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False, **indent)


def _written(text, path):
    """Return `text`, and write it to `path` where given."""
    if path is not None:
        write_text(path, text)
    return text
