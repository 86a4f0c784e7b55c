"""The page of `third_party_models.py`: what is right of a row, and why channels are kept."""

import collections
import re

from resrep_keras.common.tables import markdown_table

SOURCES = {
    "hub": "KerasHub",
    "yolo": "kyolo, mtcnn",
    "vision_examples": "keras.io, pictures",
    "other_examples": "keras.io, other",
}
TOLERANCE, ROUNDING = 1e-4, 1e-6
# Why a kind of pin is right: what an exact removal would change.
REASONS = {
    "OUTPUT": "The answer of the model: classes, boxes, features. Fewer are another answer.",
    "INPUT": "Features that come in are added to or multiplied with what a layer makes; the input "
    "has as many of them as it has.",
    "SINGLE": "A layer keeps one channel at least.",
    "INEXACT": "A mean or a variance over the channels: LayerNormalization, RMSNormalization, "
    "GroupNormalization, normalisation to unit length. A channel that is always zero still counts "
    "in it, so that the others change when it goes. `exact=False` allows it.",
    "MIXES": "A softmax over channels: one that is zero still takes its share of the sum.",
    "AXES": "Channels are added to or multiplied with positions, or read by a layer that works "
    "along another axis: one number belongs to a channel and to a position at once.",
    "BROADCAST": "One number scales or shifts all channels.",
    "READ": "The weights are read elsewhere, too, at all their channels: tied embeddings.",
    "SHARED": "A layer is called on several tensors of which it would have to keep different "
    "channels.",
    "NO_BIAS": "A removed channel would leave a constant that no bias can take up: at the border "
    "of zero-padded convolutions, or in a layer that is called more than once.",
    "NO_RULE": "No rule is known for the layer, and trying it on arrays has not shown one: it "
    "mixes channels, or uses its weights in a way that narrowing them does not keep.",
    "NO_SITE": "There is no place for a compactor.",
    "UNTRIED": "A function that could not be tried with fewer channels: its sizes are written in.",
    "NOT_FINITE": "The function is not finite at zero.",
    "UNKNOWN_SIZE": "A size is not known.",
    "FROZEN": "Its weights must not change.",
    "STATEFUL": "A state that is kept between calls has a size of its own.",
    "OTHER": "The sentence says it: a tensor without channels, a lookup table of a single column, "
    "a constant that is multiplied in, and the like.",
}
# Products that TensorFlow computes, and that are no work of the model.
NO_WORK = {"moving": "patches", "cut_off": "cut off", "outer": "outer"}
# Of these a rule could go further than the library does; all others keep what must be kept.
OPEN = ("AXES", "NO_RULE", "NO_SITE", "UNTRIED", "SHARED", "OTHER")


def macs_agree(row):
    """Whether the library's MACs are those of TensorFlow's graph; `None` where one is not known.

    The graph has a loop, or the library has said which layers it cannot count.
    """
    graph = row["macs_of_graph"]
    if isinstance(graph, str) or row.get("macs_unknown"):
        return None
    return row["macs_slim"] == graph["all"] - sum(graph.get(key, 0) for key in NO_WORK)


def is_right(row):
    """No error, no difference above the tolerance, and MACs as TensorFlow's graph has them."""
    if "error" in row or macs_agree(row) is False:
        return False
    names = ["", "wrap_", "tflite_"]
    if "dense_reloaded" not in row or row["dense_reloaded"] <= ROUNDING:
        names.append("reloaded_")  # else Keras changes the unpruned model, too
    differences = [row[f"{name}difference"] for name in names]
    told = [value for value in differences if not isinstance(value, str)]
    tells = max(1e-5, 100 * row["difference"])  # else an output that is always the same
    return max(told) <= TOLERANCE and row["output_spread"] > tells


def _difference(value):
    return f"no ({value.split(':')[0]})" if isinstance(value, str) else f"{value:.0e}"


def _reloaded(row):
    more = f" (unpruned: {row['dense_reloaded']:.0e})" if "dense_reloaded" in row else ""
    return _difference(row["reloaded_difference"]) + more


def _tflite(row):
    """The difference of the file; else which operation the converter lacks."""
    told = row["tflite_difference"]
    if not isinstance(told, str):
        return _difference(told)
    operation = re.search(r"tf\.(\w+)", told)
    text = f"no ({operation[1] if operation else told.split(':')[0]})"
    if "dense_tflite" not in row:
        return text
    return text + (", nor unpruned" if isinstance(row["dense_tflite"], str) else ", unpruned yes")


def _graph(row):
    agree, graph = macs_agree(row), row["macs_of_graph"]
    if row.get("macs_unknown"):
        return f"without {', '.join(row['macs_unknown'])}"
    if agree is None:
        return f"no ({graph.split(':')[0]})"
    if not agree:
        return f"{row['macs_slim']:,} for {graph['all']:,}"
    more = [f"{graph[key]:,} {text}" for key, text in NO_WORK.items() if graph.get(key)]
    return " + ".join(["equal", *more])


HEADER = ("model", "channels (%)", "MACs (%)", "difference", "graph", ".keras", "TFLite")
HEADER += ("wrap (s)", "finalize (s)", "kept channels")


def _line(row):
    if "error" in row:
        return row["model"], f"failed: {row['error']}", *[""] * (len(HEADER) - 2)
    told = ((n, text.split(" (its call()")[0]) for text, n in row["kept"].items())
    kept = "; ".join(f"{n} {text}" for n, text in told)
    return (
        row["model"],
        f"{100 * row['channels_reachable'] / row['channels']:.1f}",
        f"{100 * row['macs_reachable']:.1f}",
        f"{row['difference']:.1e}",
        _graph(row),
        _reloaded(row),
        _tflite(row),
        f"{row['wrap_seconds']:.1f}",
        f"{row['finalize_seconds']:.1f}",
        kept,
    )


def _summary(rows):
    """What all rows together say."""
    done = [row for row in rows if "error" not in row]
    kinds = collections.Counter()
    for row in done:
        kinds.update(row["kept_kinds"])
    whole = sum(row["channels"] for row in done)
    reached = sum(row["channels_reachable"] for row in done)
    could = reached + sum(kinds[kind] for kind in OPEN)
    agree = [macs_agree(row) for row in done]
    reloaded = [row for row in done if not isinstance(row["reloaded_difference"], str)]
    written = [row for row in done if not isinstance(row["tflite_difference"], str)]
    nor = [row for row in done if isinstance(row.get("dense_tflite"), str)]
    worst = max((row["difference"] for row in done), default=0.0)
    largest = max((row["finalize_seconds"] for row in done), default=0.0)
    return kinds, [
        f"- {len(rows)} models, {len(rows) - len(done)} of which fail. The largest difference "
        f"after random dead channels is {worst:.1e} of the largest output.",
        f"- {reached:,} of {whole:,} channels ({100 * reached / max(1, whole):.1f} %) can be "
        f"pruned. Without those that are kept for what would change (below), "
        f"{100 * reached / max(1, could):.1f} %.",
        f"- MACs: equal to the products of TensorFlow's graph in {agree.count(True)} models, "
        f"different in {agree.count(False)}; {agree.count(None)} have graphs with loops, or layers "
        "of which `count_macs` warns that it cannot count them.",
        f"- {len(reloaded)} slim models load as `.keras` in a process that cannot import this "
        f"library; {len(written)} convert to TFLite. TensorFlow's converter takes {len(nor)} "
        "others neither pruned nor unpruned.",
        f"- `finalize` took at most {largest:.1f} s, its check on random inputs included.",
    ]


def as_page(result):
    rows = result["rows"]
    kinds, summary = _summary(rows)
    lines = [
        "# Models that were written without this library",
        "",
        f"Made by `{result['command']}` on {result['machine']}; seed {result['seed']}.",
        f"Packages: {', '.join(result['packages'])}, in an environment of their own.",
        "",
        *summary,
        "",
        "Backbones of KerasHub are built from small configurations, kyolo's nets are the smallest",
        "of each family, and the models of the keras.io examples are written anew from what the",
        "examples say. Weights, batch statistics, offsets and compactors are random; 30 % of the",
        "channels that may go are removed, coupled ones included. All of it is exact: streams that",
        "a mean or a variance runs over, as in the Mixer and in most Transformers, are kept here,",
        "and go where a method is given `exact=False`, by which outputs change.",
        "",
        "- *Channels*: the share that may go. *MACs*: the share of the cost that is spent on at",
        "  least one of them.",
        "- *Difference*: the largest between wrapped and slim model, as a share of the largest",
        "  output. A row whose masks change less than a hundred times as much is an error.",
        "- *Graph*: the MACs of the slim model are the products of the graph that TensorFlow makes",
        "  of it. Three kinds of products are TensorFlow's own way, and no work of the model. They",
        "  are told and left out: *patches* are cut out by a convolution with a constant kernel of",
        "  zeros and ones, a dilated convolution goes over blocks, whose borders are *cut off*",
        "  again, and the *outer* product of a one with a vector, by which a layer takes up a",
        "  weight of its own, sums nothing.",
        "- *.keras*: the difference after a reload where this library cannot be imported. A model",
        "  whose class is not made from inputs and outputs alone may refuse, as it does unpruned.",
        "  Keras reads `activation=keras.ops.gelu` back as another gelu: then the difference of",
        "  the unpruned model stands beside it.",
        "- *TFLite*: the difference of the file.",
        "- *Seconds* are wall time on a machine that did other work, too.",
        "",
        "`examples/detect_yolo.py` trains and prunes one of kyolo's nets; what came of it is in",
        "`benchmarks/results/detect_yolo.md`.",
        "",
        "## Why channels are kept",
        "",
    ]
    lines += [f"- **{kind}**, {n:,} channels. {REASONS[kind]}" for kind, n in kinds.most_common()]
    for source, words in SOURCES.items():
        found = [row for row in rows if row["source"] == source]
        if found:
            lines += ["", f"## {words}", "", *markdown_table(HEADER, map(_line, found))]
    return "\n".join(lines) + "\n"
