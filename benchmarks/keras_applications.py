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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import reach
from absl import app, flags
from common import machine
from families import ALL, FAMILIES, build

from resrep_keras.common.files import write_text
from resrep_keras.common.tables import markdown_table

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


def measure(name):
    formats = ("keras", "saved_model", "tflite") if FLAGS.formats else ()
    return reach.measure(name, build(name, FLAGS.seed), FLAGS.seed, FLAGS.share, formats)[0]


def is_exact(row):
    """Whether a row is within its tolerance, on outputs that depend on the input."""
    return (
        "error" not in row and row["difference"] <= tolerance(row) and row["output_spread"] >= 1e-3
    )


def tolerance(row):
    return DEEP_TOLERANCE if row["layers_with_weights"] > DEEP else TOLERANCE


# Pattern, what may go, what stays and why, and the tests that hold it.
BEYOND = (
    (
        "layers and operations that nobody has registered: activations, scales, drop paths, "
        "coordinates, `Lambda`",
        "what trying on arrays shows to pass one by one, to be read, or to be made; `explain` "
        "says *probed*",
        "what mixes channels, with what was tried",
        "`test_d2_probed_layers`",
    ),
    (
        "composite layers and subclassed models, with their own weights, masks, dropouts, loops",
        "what the calls inside let go",
        "what is called otherwise in training, or reads another layer's weights: the reason is "
        "told",
        "`test_d1_composite`",
    ),
    (
        "a layer of one's own that moves or multiplies channels",
        "as its operations; it is opened where that frees channels, and else told by what keeps "
        "them inside",
        "what its operations mix",
        "`test_d3_layers_of_ones_own`",
    ),
    (
        "reshapes, transposes, shuffles, depth to space, maxout, heads split by hand, repeats, "
        "rolls, stacks",
        "channels that a shape couples go together",
        "what a reshape mixes wholly",
        "`test_d3_moves`",
    ),
    (
        "channels along several axes at once: mixers, also with one mixing layer for all "
        "blocks, spatial gates, attention without a softmax, Gram matrices that are summed or "
        "averaged",
        "each axis by itself",
        "positions that another tensor has, too; a product of a tensor with itself that is "
        "flattened",
        "`test_d3_several_axes`",
    ),
    (
        "arrays as kernels, factors, filters, prototypes",
        "what a tensor loses the array loses",
        "factors that have one number",
        "`test_d3_constant_operands`",
    ),
    (
        "sums, norms, distances, means over channels; maxima of what is never negative",
        "exact: zeros add nothing, a mean is multiplied by the share that is left, and "
        "what is no zero, as the distance of a zero to a prototype, is added behind",
        "maxima of any sign, and norms of what is no zero",
        "`test_d3_several_axes`, `test_d3_constant_operands`",
    ),
    (
        "layer, RMS, group and unit normalisation, Keras's own or written by hand",
        "RMS and unit norms exactly, groups whole; means and variances with `exact=False`",
        "as told by `explain`",
        "`test_d3_norms_by_hand`",
    ),
    (
        "attention by hand, rotary positions, grouped queries, gated widths, tied embeddings, "
        "sequences of any length",
        "heads and hidden widths",
        "streams that are outputs or tied",
        "`test_d1_decoders`",
    ),
    (
        "branches that become one convolution (RepVGG, MobileOne)",
        "through all branches, `coupled=True`",
        "without it the streams, which `explain` says",
        "`test_d1_branches`",
    ),
)

HEADER = ("model", "channels (%)", "MACs (%)", "difference", ".keras", "SavedModel", "TFLite")
HEADER += ("trace (s)", "finalize (s)", "memory (%)", "kept channels")


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
    ]
    table = []
    for row in rows:
        if "error" in row:
            table.append((row["model"], f"failed: {row['error']}", *[""] * (len(HEADER) - 2)))
            continue
        kept = "; ".join(f"{n} {text}" for text, n in row["kept"].items())
        formats = (
            f"{row[f'{kind}_difference']:.0e}" if f"{kind}_difference" in row else "-"
            for kind in ("keras", "saved_model", "tflite")
        )
        table.append(
            (
                row["model"],
                f"{100 * row['channels_reachable'] / row['channels']:.1f}",
                f"{100 * row['macs_reachable']:.1f}",
                f"{row['difference']:.1e}",
                *formats,
                f"{row['trace_seconds']:.2f}",
                f"{row['finalize_seconds']:.1f}",
                f"{100 * row['finalize_memory_of_limit']:.0f}",
                kept,
            )
        )
    lines += markdown_table(HEADER, table)
    lines += [
        "",
        "Kept channels: *an output of the model* are the ten classes. ConvNeXt normalises its",
        "stems and residual streams by a LayerNormalization, whose mean and variance run over all",
        "channels: no removal is exact there, and `exact=False` allows it all the same. What is",
        "left of ConvNeXt, the wide hidden layers of its blocks, holds nearly all of its MACs.",
        "",
        "## Beyond keras.applications",
        "",
        "What the tests of the named files in `tests/cases/` hold, each by random removal and a",
        "certificate; [`third_party.md`](third_party.md) has the same of models that were written",
        "without this library.",
        "",
        *markdown_table(("pattern", "what may go", "what stays, and why", "tests"), BEYOND),
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
