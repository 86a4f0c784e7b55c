"""An explanation in words: a table of layers, sentences about the whole, a list of pins."""

import textwrap

from resrep_keras.common.tables import text_table

WIDTH = 118  # of a printed line
MOST_NAME = 40


def in_words(rows, pins, totals):
    """The text that `print(explain(model))` shows."""
    return "\n".join([*_table(rows), "", *_sentences(totals), *_listed(pins)])


def _table(rows):
    """One line for each row, aligned, with a note that is cut off where it is long."""
    width = min(MOST_NAME, max([len("layer"), *(len(row.layer) for row in rows)]))
    room = WIDTH - width - sum(2 + len(name) for name in ("channels", "prunable", "prunable", ""))
    cells = [
        (
            _cut(row.layer, width, 18),
            row.channels,
            row.prunable,
            row.status,
            _cut(_note(row), room),
        )
        for row in rows
    ]
    return text_table(("layer", "channels", "prunable", "status", "note"), cells, left=(0, 3, 4))


def _note(row):
    """What there is to say of a layer, on one line."""
    notes = []
    if row.inexact is not None:
        notes.append(f"inexact: {row.inexact}")
    if row.status == "pinned":
        notes.append(str(row.pin))
    else:
        if row.pinned:
            notes.append(f"{row.pinned} are kept by {row.pin}")
        if row.follows is not None:
            notes.append(f"the channels of {row.follows}, which it scales")
        together = "coupled=True, with" if row.status == "coupled" else "with"
        for word, others in ((together, row.partners), ("followed by", row.followers)):
            if others:
                notes.append(f"{word} {', '.join(others)}")
        if row.probed:
            notes.append(f"probed: {', '.join(row.probed)}")
    return " ".join("; ".join(notes).split())


def _cut(text, width, tail=0):
    """The text, or its start and the last `tail` characters with dots between them."""
    if len(text) <= width:
        return text
    return f"{text[: width - 3 - tail]}...{text[len(text) - tail :]}"


def _sentences(totals):
    if not totals.channels:
        return ["The model has no layer that makes channels."]
    shares = {name: f"({100 * share:.1f} %)" for name, share in totals.shares.items()}
    words = (
        f"The {totals.layers} layers make {totals.channels:,} channels. "
        f"{totals.prunable:,} {shares['prunable']} can be pruned on their own, "
        f"{totals.coupled:,} {shares['coupled']} more with coupled=True; "
        f"{totals.pinned:,} {shares['pinned']} are pinned."
    )
    if totals.inexact:
        words += (
            f" Removing {totals.inexact:,} {shares['inexact']} of the channels changes outputs, "
            "which exact=False allows."
        )
    if totals.probed:
        words += (
            f" {totals.probed:,} {shares['probed']} meet layers that have no rule and were probed "
            "on random arrays."
        )
    others = {name: reach for name, reach in totals.quantities.items() if name != "macs"}
    paragraphs = [words, _mac_words(totals), *map(_other_words, others, others.values())]
    return [line for paragraph in paragraphs for line in _wrapped(paragraph)]


def _mac_words(totals):
    if totals.macs is None:
        return (
            "The MACs, and how far they can fall, are unknown: input_shape is needed. "
            f"{totals.macs_unknown}"
        )
    unknown = f"Unknown: {totals.macs_unknown} All others: " if totals.macs_unknown else ""
    return unknown + (
        f"One forward pass takes {totals.macs:,} MACs, {100 * totals.macs_reachable:.1f} % of "
        "them on channels that may go. With one channel left in each layer, the largest "
        f"target_reduction is {_largest(totals.quantities['macs'])}."
    )


def _other_words(name, reach):
    """The same, shorter, of a quantity that a target can name beside the MACs."""
    if reach.dense is None:
        return f"{name}: unknown without input_shape."
    return (
        f"{name}: {reach.dense:,}{' ' * bool(reach.unit)}{reach.unit} of {reach.label}; the "
        f"largest target_reduction is {_largest(reach)}."
    )


def _largest(reach):
    shares = reach.largest_target_reduction.items()
    return " and ".join(
        f"{f'{share:.4f}' if share else '0 (nothing may go)'} with {setting}"
        for setting, share in shares
    )


def _listed(pins):
    """The pinning nodes; those that pin for the same reasons stand together."""
    alike = {}
    for pin in pins:
        alike.setdefault((pin.reasons, pin.remedies), []).append(pin)
    lines = ["", "Channels are pinned by:"] if pins else []
    for same in alike.values():
        names = ", ".join(pin.layer for pin in same)
        count = sum(pin.channels for pin in same)
        channels = f"{count:,} channel{'s' * (count != 1)}" if count else "no further channels"
        lines += _wrapped(f"{names} ({channels}): {'; '.join(same[0].reasons)}", "- ")
        lines += _wrapped(f"remedy: {' '.join(same[0].remedies)}", "  ")
    return lines


def _wrapped(text, start=""):
    indent = {"initial_indent": start, "subsequent_indent": " " * len(start)}
    # A name stays whole, however long it is.
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False, **indent)
