"""Targets of latency against the measured model, and what rounding of widths gains.

    python benchmarks/latency_targets.py

Each net is wrapped with a target of latency, trained for five epochs on random images (which
channels go matters here, not the accuracy), finalized, and timed with LiteRT in turn with the dense
net. The second table removes half of the MACs with and without rounding. Writes
`benchmarks/results/latency_targets.json` and `.md`.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import keras
import nets
import numpy as np
from absl import app, flags, logging
from common import RESULTS, machine, write_result

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.costs.budget import UnreachableTarget
from resrep_keras.costs.latency import tflite_latency
from resrep_keras.surgery.forward import example_inputs
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.signature import signature_of

FLAGS = flags.FLAGS
SHAPES = {"resnet20": (28, 28, 1), "vgg11": (32, 32, 3), "mobilenet_v2": (96, 96, 3)}
flags.DEFINE_list("models", list(SHAPES), "Which nets.")
flags.DEFINE_list("parts", ["targets", "rounding"], "What to measure; the rest stays as written.")
flags.DEFINE_list("reductions", ["0.4", "0.6"], "Shares of the latency to remove.")
flags.DEFINE_list("multiples", ["1", "8", "16", "auto"], "What channel_multiple to compare.")
flags.DEFINE_integer("threads", 1, "Threads of LiteRT.")
flags.DEFINE_integer("images", 256, "Random images to train on.")
flags.DEFINE_integer("repeats", 300, "Timed calls of each model.")
flags.DEFINE_integer("seed", 0, "Seed of weights and images.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")


def prune(name, method):
    """A dense net, and what is left of it after five epochs on random images."""
    keras.utils.set_random_seed(FLAGS.seed)
    dense = nets.NETS[name](SHAPES[name], 10)
    model = resrep_keras.wrap(dense, method)
    generator = np.random.default_rng(FLAGS.seed)
    x = generator.normal(size=(FLAGS.images, *SHAPES[name])).astype("float32")
    y = generator.integers(0, 10, FLAGS.images)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    return dense, resrep_keras.finalize(model, strict=True), model.baseline


def seconds(*models):
    """Median seconds of one call of each, timed in turn."""
    arrays = example_inputs(models[0], batch_size=1)
    inputs = [signature_of(model).by_name(arrays) for model in models]
    return tflite_latency([to_tflite(m) for m in models], inputs, FLAGS.threads, FLAGS.repeats)


def target_rows(name):
    for reduction in map(float, FLAGS.reductions):
        # Beyond a half, the streams of residual nets have to become narrower, too.
        method = resrep_keras.ResRep(
            {"latency": reduction}, coupled=reduction > 0.5, threads=FLAGS.threads
        )
        dense, slim, baseline = prune(name, method)
        before, after = seconds(dense, slim)
        row = {
            "model": name,
            "asked_left": round(1 - reduction, 4),
            "measured_left": round(after / before, 4),
            "over_asked": round(after / before / (1 - reduction), 4),
            "macs_left": round(slim.certificate.macs_left, 4),
            "dense_ms": round(1000 * before, 4),
            "fit_error": round(baseline.facts["latency"]["error"], 4),
        }
        print(row, flush=True)
        yield row


def rounding_rows(name):
    slims = {}
    for setting in FLAGS.multiples:
        multiple = setting if setting == "auto" else int(setting)
        method = resrep_keras.ResRep(0.5, channel_multiple=multiple, threads=FLAGS.threads)
        try:
            dense, slims[setting], _ = prune(name, method)
        except UnreachableTarget:
            pass  # out of reach with these widths
    times = seconds(dense, *slims.values())
    for (setting, slim), after in zip(slims.items(), times[1:]):
        row = {
            "model": name,
            "channel_multiple": setting,
            "macs_left": round(slim.certificate.macs_left, 4),
            "latency_left": round(after / times[0], 4),
            "over_unrounded": round(after / times[1], 4),
        }
        print(row, flush=True)
        yield row


# What columns are called, and where their values are.
TARGETS = {
    "net": "model",
    "latency asked, share of dense": "asked_left",
    "measured": "measured_left",
    "measured / asked": "over_asked",
    "MACs left": "macs_left",
    "error of the fit": "fit_error",
}
ROUNDING = {
    "net": "model",
    "`channel_multiple`": "channel_multiple",
    "MACs left": "macs_left",
    "latency left": "latency_left",
    "latency / unrounded": "over_unrounded",
}


def _table(columns, rows):
    return markdown_table(columns, [[row[key] for key in columns.values()] for row in rows])


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {result['threads']} thread(s), "
        f"medians of {result['repeats']} calls in turn, batch 1, one seed.",
        "",
        *_table(TARGETS, result["targets"]),
        "",
        "Half of the MACs removed, with and without rounding of widths; multiples that cannot "
        "reach the target are left out:",
        "",
        *_table(ROUNDING, result["rounding"]),
    ]
    return "\n".join(lines) + "\n"


def main(_):
    logging.set_verbosity(logging.WARNING)
    path = RESULTS / "latency_targets.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    result = {
        "command": "python benchmarks/latency_targets.py",
        "machine": machine(),
        "threads": FLAGS.threads,
        "repeats": FLAGS.repeats,
    }
    for part, measure in (("targets", target_rows), ("rounding", rounding_rows)):
        names = FLAGS.models if part in FLAGS.parts else []
        kept = [row for row in before.get(part, []) if row["model"] not in names]
        result[part] = kept + [row for name in names for row in measure(name)]
    page = as_markdown(result)
    print(page)
    if FLAGS.write:
        write_result(result, page)


if __name__ == "__main__":
    app.run(main)
