"""All 40 builders of keras.applications: what can be pruned, and how exact the slim model is.

    python benchmarks/keras_applications.py

Each model is built without the last activation for a small picture and ten classes, gets random
weights and batch statistics, is wrapped with coupled groups, its compactors are moved away from the
identity, 30 % of all channels that may go are removed, and the slim model is saved and reloaded as
`.keras`, SavedModel and TFLite. Each runs in a process of its own. Results go to
benchmarks/results/keras_applications.json and docs/coverage.md, after each model.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags
from common import PeakMemory, machine, mask_at_random
from families import ALL, FAMILIES, build

import resrep_keras
from resrep_keras.common.files import write_text
from resrep_keras.costs.budget import removable
from resrep_keras.costs.macs import MacCost
from resrep_keras.surgery.forward import example_inputs, run

FLAGS = flags.FLAGS
flags.DEFINE_list("models", ALL, "Which builders.")
flags.DEFINE_bool("smallest", False, "Only the smallest builder of each family.")
flags.DEFINE_string("one", None, "Measure this builder in this process and print JSON.")
flags.DEFINE_integer("seed", 0, "Seed of weights and masks.")
flags.DEFINE_float("share", 0.3, "Share of the channels to remove.")
flags.DEFINE_bool("formats", True, "Whether to write and run .keras, SavedModel and TFLite.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")

ROOT = pathlib.Path(__file__).parents[1]
JSON = ROOT / "benchmarks" / "results" / "keras_applications.json"
PAGE = ROOT / "docs" / "coverage.md"
TOLERANCE, DEEP_TOLERANCE, DEEP = 1e-4, 1e-3, 300


def reach(graph):
    """Shares of channels and MACs that can be pruned, and why the others cannot."""
    groups = [group for group in graph.groups if group.prunable]
    total = sum(len(p.channels) for g in graph.groups for p in g.producers)
    free = {c for g in groups for c in g.channels[~g.pinned].tolist()}
    own = sum(len(p.channels) for g in groups for p in g.producers)
    cost = MacCost(graph)
    gone = np.ones(graph.num_channels, bool)
    gone[list(free)] = False
    floor = np.ones(graph.num_channels, bool)
    floor[removable(groups, np.zeros(graph.num_channels))[0]] = False
    reasons = {}
    for group in graph.groups:
        if not group.prunable:
            channels = sum(len(p.channels) for p in group.producers)
            short = group.pinned_by.text.split(",")[0]
            reasons[short] = reasons.get(short, 0) + channels
    return {
        "channels": total,
        "channels_reachable": own,
        "macs": cost(),
        "macs_reachable": 1 - cost(gone) / cost(),
        "largest_target_reduction": 1 - cost(floor) / cost(),
        "kept": reasons,
    }


def measure(name):
    dense = build(name, FLAGS.seed)
    begin = time.perf_counter()
    graph = resrep_keras.trace(dense)
    row = {"model": name, "calls": len(graph.calls), "trace_seconds": time.perf_counter() - begin}
    row["layers_with_weights"] = sum(bool(layer.weights) for layer in dense.layers)
    row |= reach(graph)
    weight_bytes = 4 * dense.count_params()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.01, coupled=True))
    inputs = example_inputs(dense)
    row["wrap_difference"] = largest_difference(run(dense, inputs), run(wrapped, inputs))
    removed, channels = mask_at_random(wrapped, FLAGS.seed, FLAGS.share)
    wrapped.method = None  # random masks have no target
    expected = run(wrapped, inputs)
    # Masks that change nothing would prove nothing, nor would an output that is always the same.
    if largest_difference(run(dense, inputs), expected) < 1e-3:
        raise ValueError("the masks do not change the output")
    row["output_spread"] = float(np.abs(expected[0] - expected[1]).max() / np.abs(expected).max())
    begin = time.perf_counter()
    with PeakMemory() as memory:
        slim = resrep_keras.finalize(wrapped, strict=True)
    row["finalize_seconds"] = time.perf_counter() - begin
    row["finalize_memory_of_limit"] = memory.peak / (3 * weight_bytes + 1e9)
    row["share_removed"] = removed / channels
    row["macs_left"] = slim.certificate.macs_left
    row["parameters"] = [dense.count_params(), slim.count_params()]
    row["difference"] = largest_difference(expected, run(slim, inputs))
    del dense, wrapped
    if FLAGS.formats:
        with tempfile.TemporaryDirectory() as folder:
            for kind, path in (("keras", "m.keras"), ("saved_model", "m"), ("tflite", "m.tflite")):
                row[f"{kind}_difference"] = resrep_keras.export(slim, f"{folder}/{path}")
    return row


def largest_difference(expected, actual):
    return float(np.abs(expected - actual).max() / np.abs(expected).max())


def is_exact(row):
    """Whether a row is within its tolerance, on outputs that depend on the input."""
    return (
        "error" not in row and row["difference"] <= tolerance(row) and row["output_spread"] >= 1e-3
    )


def tolerance(row):
    return DEEP_TOLERANCE if row["layers_with_weights"] > DEEP else TOLERANCE


def as_page(result):
    rows = result["rows"]
    passed = [row for row in rows if is_exact(row)]
    lines = [
        "# Coverage of keras.applications",
        "",
        f"Made by `{result['command']}` on {result['machine']}; one seed. {len(passed)} of "
        f"{len(ALL)} builders are within the tolerance: 1e-4 of the largest output, or 1e-3 for "
        "more than 300 layers with weights, where rounding adds up.",
        "",
        "Random weights, batch statistics and compactors; 30 % of the channels that may go are",
        "removed, coupled ones included. *Channels*: the share that may go. *MACs*: the share of",
        "the cost that is spent on at least one of them. *Difference*: the largest between wrapped",
        "and slim model as a share of the largest output; behind it, between the slim model and",
        "itself reloaded. *Memory*: the peak of `finalize`, as a share of 3 x weights + 1 GB.",
        "",
        "| model | channels (%) | MACs (%) | difference | .keras | SavedModel | TFLite | trace (s) "
        "| finalize (s) | memory (%) | kept channels |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['model']} | failed: {row['error']} |" + " |" * 9)
            continue
        kept = "; ".join(f"{n} {text}" for text, n in row["kept"].items())
        formats = " | ".join(
            f"{row[f'{kind}_difference']:.0e}" if f"{kind}_difference" in row else "-"
            for kind in ("keras", "saved_model", "tflite")
        )
        lines.append(
            f"| {row['model']} | {100 * row['channels_reachable'] / row['channels']:.1f} | "
            f"{100 * row['macs_reachable']:.1f} | {row['difference']:.1e} | {formats} | "
            f"{row['trace_seconds']:.2f} | {row['finalize_seconds']:.1f} | "
            f"{100 * row['finalize_memory_of_limit']:.0f} | {kept} |"
        )
    lines += [
        "",
        "Kept channels: *an output of the model* are the ten classes. ConvNeXt normalises its",
        "stems and residual streams by a LayerNormalization, whose mean and variance run over all",
        "channels: no removal is exact there, and `exact=False` allows it all the same. What is",
        "left of ConvNeXt, the wide hidden layers of its blocks, holds nearly all of its MACs.",
    ]
    return "\n".join(lines) + "\n"


def measure_apart(name):
    """A row from a process of its own, so that memory is measured from the start."""
    command = [sys.executable, __file__, f"--one={name}", f"--seed={FLAGS.seed}"]
    command += [f"--share={FLAGS.share}", f"--formats={FLAGS.formats}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"model": name, "error": done.stderr.strip().splitlines()[-1][:200]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(_):
    if FLAGS.one:
        print(json.dumps(measure(FLAGS.one)))
        return
    names = [family[0] for family in FAMILIES.values()] if FLAGS.smallest else FLAGS.models
    known = json.loads(JSON.read_text())["rows"] if FLAGS.write and JSON.exists() else []
    rows = {row["model"]: row for row in known}
    failed = []
    for name in names:
        row = rows[name] = measure_apart(name)
        shown = ("model", "error", "difference", "output_spread", "tflite_difference")
        print({key: row[key] for key in shown if key in row}, flush=True)
        if not is_exact(row):
            failed.append(name)
        if FLAGS.write:
            result = {
                "command": "python benchmarks/keras_applications.py",
                "machine": machine(),
                "rows": [rows[name] for name in ALL if name in rows],
            }
            write_text(JSON, json.dumps(result, indent=1) + "\n")
            write_text(PAGE, as_page(result))
    if failed:
        raise SystemExit(f"Not within the tolerance: {', '.join(failed)}.")


if __name__ == "__main__":
    app.run(main)
