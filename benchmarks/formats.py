"""Pruned, then quantized: bytes, accuracy and latency of each TFLite file of a net.

    python benchmarks/formats.py --data_dir=/usr/share/datasets/fashion-mnist

Each seed trains a dense net on Fashion-MNIST, prunes it with ResRep, and exports both: the dense
one in float32, the slim one in float32 and with each quantization, calibrated on training images,
and in int8 after quantisation-aware training (`pip install "resrep-keras[tfmot]"`). The dense net
that has trained on for as long as the slim one was pruned stands beside them. Latencies are
measured last, all files of a seed in turn. Finished runs are kept in the work folder. Writes
`benchmarks/results/formats.json` and `.md`, or files of another name (`--name`). A run of a few
minutes, to see that it works:

    python benchmarks/formats.py --seeds=0 --nets=small_resnet --images=256 --test_images=100 \
        --dense_epochs=1 --epochs=5 --aware_epochs=1 --nowrite --work_dir=/tmp/formats_tried
"""

import numpy as np
import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.costs.latency import tflite_latency
from resrep_keras.tflite.run import TFLiteRunner

FLAGS = flags.FLAGS
flags.DEFINE_integer("dense_epochs", 10, "Epochs of the dense net.")
flags.DEFINE_float("target_reduction", 0.5, "Share to remove.")
flags.DEFINE_string("of", "macs", "Of what: `macs`, `params`, `file_bytes`.")
flags.DEFINE_integer("fine_epochs", 0, "Epochs of the slim net after `finalize`, by Adam at 1e-3.")
flags.DEFINE_integer("calibration", 300, "Training images to calibrate on.")
flags.DEFINE_integer("aware_epochs", 3, "Epochs of quantisation-aware training.")
flags.DEFINE_float("aware_rate", 1e-4, "Rate of Adam in quantisation-aware training.")
flags.DEFINE_integer("calls", 100, "Calls of each file that its latency is the median of.")
flags.DEFINE_string("name", "formats", "Name of the result files.")
NETS = {  # the last begins with a stride of 2, as MobileNetV2 does, on a quarter of the MACs
    **trials.nets.NETS,
    "mobilenet_v2_half": lambda *args: trials.nets.mobilenet_v2(*args, strides=2),
}
flags.DEFINE_list("nets", ["small_resnet"], "Nets, of `NETS`.")

DENSE, LONGER = "dense float32", "dense float32 trained on"
# By the row of the table: which model, and how its numbers are held.
FILES = {
    DENSE: ("dense", None),
    LONGER: ("longer", None),
    "slim float32": ("slim", None),
    "slim float16": ("slim", "float16"),
    "slim dynamic": ("slim", "dynamic"),
    "slim int8": ("slim", "int8"),
    "slim int16x8": ("slim", "int16x8"),
}
AWARE = "slim int8 (QAT)"
flags.DEFINE_list("files", [*FILES, AWARE], "Rows of the table, the first among them.")


def dense_path(net, data, seed):
    """The file of the dense net of a seed, trained once."""

    def train(path):
        trials.keras.utils.set_random_seed(seed)
        dense = NETS[net](data[0][0].shape[1:], 10)
        trials.fit(dense, data, FLAGS.dense_epochs, seed)
        dense.save(path)

    return trials.kept(trials.work_dir() / f"{net}_dense_{seed}.keras", train)


def longer_path(net, data, seed):
    """The file of the dense net that has trained on for as long as the slim one is pruned."""

    def train(path):
        dense = load(dense_path(net, data, seed))
        trials.fit(dense, data, FLAGS.epochs, seed)
        dense.save(path)

    return trials.kept(trials.work_dir() / f"{net}_longer_{seed}.keras", train)


def slim_path(net, data, seed):
    """The file of the slim net of a seed, trained once."""

    def prune(path):
        dense = load(dense_path(net, data, seed))
        method = resrep_keras.ResRep({FLAGS.of: FLAGS.target_reduction})
        wrapped = resrep_keras.wrap(dense, method)
        trials.fit(wrapped, data, FLAGS.epochs, seed)
        resrep_keras.finalize(wrapped, strict=True).save(path)

    return trials.kept(trials.work_dir() / f"{net}_slim_{seed}.keras", prune)


def tuned_path(net, data, seed):
    """The file of the slim net that has trained on, without batch normalisations, where asked."""

    def train(path):
        (x, y), _ = data
        slim = load(slim_path(net, data, seed))
        trials.keras.utils.set_random_seed(2000 + seed)
        steps = FLAGS.fine_epochs * -(-len(x) // FLAGS.batch_size)
        rate = trials.keras.optimizers.schedules.CosineDecay(1e-3, steps)
        slim.compile(trials.keras.optimizers.Adam(rate), slim.loss, jit_compile=FLAGS.jit)
        slim.fit(x, y, FLAGS.batch_size, FLAGS.fine_epochs, verbose=0)
        slim.save(path)

    if not FLAGS.fine_epochs:
        return slim_path(net, data, seed)
    return trials.kept(trials.work_dir() / f"{net}_tuned_{seed}.keras", train)


PATHS = {"dense": dense_path, "longer": longer_path, "slim": tuned_path}


def load(path):
    model = trials.keras.models.load_model(path, compile=False)
    loss = trials.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def trained_for_it(slim, path, data):
    """What `export` tells of the file of a slim model after quantisation-aware training."""
    (x, y), test = data
    slim.compile(trials.keras.optimizers.Adam(FLAGS.aware_rate), slim.loss, metrics=["accuracy"])
    aware = resrep_keras.tfmot.quantize_aware(slim, x[: FLAGS.calibration])
    aware.fit(x, y, batch_size=FLAGS.batch_size, epochs=FLAGS.aware_epochs, verbose=2)
    return resrep_keras.tfmot.export(aware, path, slim, test_data=test)


def file_path(net, seed, row):
    name = row.replace("(", "").replace(")", "").replace(" ", "_")
    return trials.work_dir() / f"{net}_{seed}_{name}.tflite"


def made(net, row, data, seed):
    """What `export` tells of the file of a row."""
    (x, _), test = data
    which, quantization = FILES.get(row, ("slim", None))
    model, path = load(PATHS[which](net, data, seed)), file_path(net, seed, row)
    if row == AWARE:
        return trained_for_it(model, path, data)
    settings = {"calibration_data": x[: FLAGS.calibration]} if quantization else {}
    return resrep_keras.export(model, path, quantization=quantization, test_data=test, **settings)


def run(net, data, seed):
    """``{row: what is told of the file}``."""
    return {row: record(net, row, data, seed) for row in FLAGS.files}


def record(net, row, data, seed):
    def measure(_):
        found = made(net, row, data, seed)
        print(found, flush=True)
        return {
            "bytes": found.bytes,
            "accuracy": round(100 * found.quality["accuracy"][1], 2),
            "model_accuracy": round(100 * found.quality["accuracy"][0], 2),
            "difference": found.difference,
        }

    return trials.record(file_path(net, seed, row).stem, measure)


def microseconds(net):
    """``[{row: latency} of each seed]``, all files of a seed called in turn."""
    found = []
    for seed in FLAGS.seeds:
        contents = [file_path(net, seed, row).read_bytes() for row in FLAGS.files]
        inputs = [TFLiteRunner(each).random_inputs() for each in contents]
        seconds = tflite_latency(contents, inputs, repeats=FLAGS.calls)
        found.append({row: round(1e6 * s, 1) for row, s in zip(FLAGS.files, seconds)})
    return found


def as_markdown(result):
    lines = [
        f"{trials.made_by(result)} Accuracy of each TFLite file on {result['test_images']:,} test "
        "images; to the dense net of the same seed in points, and, where shown, to the dense "
        "net that has trained on for as long as the slim one was pruned; latency of one image on "
        f"one thread, median of {result['calls']} calls, all files of a seed called in turn, mean "
        "of seeds; differences of outputs from the model's as a share of the largest, the largest "
        f"of all seeds. int8 and int16x8 are calibrated on {result['calibration']} training "
        f"images; QAT is quantisation-aware training for {result['aware_epochs']} more epochs at "
        f"a rate of {result['aware_rate']:g}. Batches of {result['batch_size']}, images of "
        f"{28 // result['pooled']} pixels a side."
    ]
    if result["fine_epochs"]:
        lines[0] += (
            f" The slim nets have trained on for {result['fine_epochs']} epochs after `finalize`, "
            "by Adam at a rate that falls from 1e-3."
        )
    for net, runs in result["runs"].items():
        lines += ["", *markdown_table(header(runs), table(runs, result["microseconds"][net], net))]
    return "\n".join(lines) + "\n"


def header(runs):
    others = ["to dense, trained on"] if LONGER in runs[0] else []
    ends = "latency (µs)", "difference"
    return ["file", "bytes", "of dense (%)", "accuracy (%)", "to dense", *others, *ends]


def table(runs, times, net):
    """The rows of the table of a net."""
    lines, others = [], [row for row in (DENSE, LONGER) if row in runs[0]]
    for row in runs[0]:
        each = [told[row] for told in runs]
        share = [100 * told[row]["bytes"] / told[DENSE]["bytes"] for told in runs]
        behind = [
            mean_and_spread([told[row]["accuracy"] - told[other]["accuracy"] for told in runs])
            for other in others
        ]
        cells = [
            f"{net}: {row}",
            f"{np.mean([e['bytes'] for e in each]):,.0f}",
            f"{np.mean(share):.1f}",
            mean_and_spread([e["accuracy"] for e in each]),
            *behind,
            f"{np.mean([told[row] for told in times]):,.0f}",
            f"{max(e['difference'] for e in each):.1e}",
        ]
        lines.append(cells)
    return lines


def main(_):
    data = trials.begin()
    runs = trials.records(FLAGS.nets, lambda net, seed: run(net, data, seed))
    result = {
        **trials.origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": {FLAGS.of: FLAGS.target_reduction},
        "test_images": FLAGS.test_images,
        "fine_epochs": FLAGS.fine_epochs,
        "calibration": FLAGS.calibration,
        "batch_size": FLAGS.batch_size,
        "pooled": FLAGS.pooled,
        "aware_epochs": FLAGS.aware_epochs,
        "aware_rate": FLAGS.aware_rate,
        "calls": FLAGS.calls,
        "runs": runs,
        "microseconds": {net: microseconds(net) for net in FLAGS.nets},
    }
    trials.publish(result, as_markdown, FLAGS.name)


if __name__ == "__main__":
    app.run(main)
