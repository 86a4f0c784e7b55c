"""Pruned, then quantized: bytes, accuracy and latency of each TFLite file of a net.

    python benchmarks/formats.py --data_dir=/usr/share/datasets/fashion-mnist

Each seed trains a dense net on Fashion-MNIST, prunes it with ResRep, and exports both: the dense
one in float32, the slim one in float32 and with each quantization, calibrated on training images,
and in int8 after quantisation-aware training (`pip install "resrep-keras[tfmot]"`).
Finished runs are kept in the work folder. Writes `benchmarks/results/formats.json` and `.md`. A run
of a few minutes, to see that it works:

    python benchmarks/formats.py --seeds=0 --nets=small_resnet --images=256 --test_images=100 \
        --dense_epochs=1 --epochs=5 --aware_epochs=1 --nowrite --work_dir=/tmp/formats_tried
"""

import numpy as np
import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_integer("dense_epochs", 10, "Epochs of the dense net.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_integer("calibration", 300, "Training images to calibrate on.")
flags.DEFINE_integer("aware_epochs", 3, "Epochs of quantisation-aware training; 0 for none.")
flags.DEFINE_list("nets", ["small_resnet", "mobilenet_v2"], "Nets, see examples/nets.py.")

# By the row of the table: which model, and how its numbers are held.
FILES = {
    "dense, float32": ("dense", None),
    "slim, float32": ("slim", None),
    "slim, float16": ("slim", "float16"),
    "slim, dynamic": ("slim", "dynamic"),
    "slim, int8": ("slim", "int8"),
    "slim, int16x8": ("slim", "int16x8"),
}
AWARE = "slim, int8 (QAT)"


def models(net, data, seed):
    """The dense net of a seed and the slim one, trained once, compiled for their labels."""

    def train(path):
        trials.keras.utils.set_random_seed(seed)
        dense = trials.nets.NETS[net]((28, 28, 1), 10)
        trials.fit(dense, data, FLAGS.dense_epochs, seed)
        dense.save(path)

    def prune(path):
        wrapped = resrep_keras.wrap(load(dense), resrep_keras.ResRep(FLAGS.target_reduction))
        trials.fit(wrapped, data, FLAGS.epochs, seed)
        resrep_keras.finalize(wrapped, strict=True).save(path)

    dense = trials.kept(trials.work_dir() / f"{net}_dense_{seed}.keras", train)
    slim = trials.kept(trials.work_dir() / f"{net}_slim_{seed}.keras", prune)
    return {"dense": load(dense), "slim": load(slim)}


def load(path):
    model = trials.keras.models.load_model(path, compile=False)
    loss = trials.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def trained_for_it(slim, path, data):
    """The file of a slim model after quantisation-aware training."""
    (x, y), test = data
    slim.compile(trials.keras.optimizers.Adam(1e-4), slim.loss, metrics=["accuracy"])
    aware = resrep_keras.tfmot.quantize_aware(slim, x[: FLAGS.calibration])
    aware.fit(x, y, batch_size=128, epochs=FLAGS.aware_epochs, verbose=2)
    return resrep_keras.tfmot.export(aware, path, slim, test_data=test, latency=True)


def as_row(found):
    """What the table tells of a file."""
    print(found, flush=True)
    return {
        "bytes": found.bytes,
        "accuracy": round(100 * found.quality["accuracy"][1], 2),
        "milliseconds": round(1000 * found.seconds, 4),
        "difference": found.difference,
    }


def run(net, data, seed):
    """``{row: what is told of the file}``."""

    def measure(_):
        made, (x, _), test = models(net, data, seed), *data
        told = {}
        for row, (which, quantization) in FILES.items():
            path = trials.work_dir() / f"{net}_{seed}_{row.replace(', ', '_')}.tflite"
            found = resrep_keras.export(
                made[which],
                path,
                quantization=quantization,
                calibration_data=x[: FLAGS.calibration],
                test_data=test,
                latency=True,
            )
            told[row] = as_row(found)
        if FLAGS.aware_epochs:
            path = trials.work_dir() / f"{net}_{seed}_aware.tflite"
            told[AWARE] = as_row(trained_for_it(made["slim"], path, data))
        return told

    return trials.record(f"{net}_{seed}", measure)


def as_markdown(result):
    lines = [
        f"{trials.made_by(result)} Accuracy of each TFLite file on {result['test_images']:,} test "
        "images (%); latency of one image on one thread, median of 50 calls; differences of "
        "outputs from the model's as a share of the largest, the largest of all seeds. int8 and "
        f"int16x8 are calibrated on {result['calibration']} training images, QAT is "
        f"quantisation-aware training for {result['aware_epochs']} epochs."
    ]
    for net, runs in result["runs"].items():
        lines += [""]
        header = (net, "bytes", "of dense (%)", "accuracy", "against dense", "ms", "difference")
        table = []
        for row in runs[0]:
            each = [told[row] for told in runs]
            dense = [told["dense, float32"] for told in runs]
            size = np.mean([e["bytes"] for e in each])
            share = [100 * e["bytes"] / d["bytes"] for e, d in zip(each, dense)]
            lost = [e["accuracy"] - d["accuracy"] for e, d in zip(each, dense)]
            cells = [
                row,
                f"{size:,.0f}",
                f"{np.mean(share):.1f}",
                mean_and_spread([e["accuracy"] for e in each]),
                mean_and_spread(lost),
                f"{np.mean([e['milliseconds'] for e in each]):.3f}",
                f"{max(e['difference'] for e in each):.1e}",
            ]
            table.append(cells)
        lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def main(_):
    data = trials.begin()
    runs = trials.records(FLAGS.nets, lambda net, seed: run(net, data, seed))
    result = {
        **trials.origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": FLAGS.target_reduction,
        "test_images": FLAGS.test_images,
        "calibration": FLAGS.calibration,
        "aware_epochs": FLAGS.aware_epochs,
        "runs": runs,
    }
    trials.publish(result, as_markdown)


if __name__ == "__main__":
    app.run(main)
