"""What pruning costs in training: per step, and over a run that removes channels while it trains.

    python benchmarks/training_time.py

1. A step of the wrapped model over one of the dense model, before any selection, measured in turn.
2. A whole run with `slim_every=1` over plain training of the dense model for the same epochs, both
   from the same trained net, the time to compile steps anew included; an epoch of each in turn.
3. Final accuracy with and without early removal, on a subset of Fashion-MNIST, over some seeds.

Results go to benchmarks/results/training_time.json and .md; what a call does not measure stays
there.
"""

import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags, logging
from common import RESULTS, machine, write_result

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.costs.latency import median_seconds
from resrep_keras.methods.channels.schedules import PlannedSchedule

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from examples.datasets import load_idx
from examples.nets import NETS

# Input shapes of the nets.
SHAPES = {"resnet20": (32, 32, 3), "vgg11": (32, 32, 3), "mobilenet_v2": (96, 96, 3)}
# The widths of ResNet-20 are few kernels wide: streams are pruned, too, by whole kernels, and
# early.
SETTINGS = {
    "resnet20": {
        "coupled": True,
        "channel_multiple": 16,
        "schedule": PlannedSchedule(selection_end=0.1, forgetting=0.05),
    }
}
# Steps of an epoch of the whole runs: as many as take about as long.
STEPS = {"resnet20": 200, "vgg11": 60, "mobilenet_v2": 8}
TRAINED_EPOCHS = 2  # before both runs
# Moving averages of batch normalisation must follow in runs of a hundred steps; cuts wait for them.
NORM_MOMENTUM = 0.9
STEP_LIMIT, RUN_LIMIT = 1.15, 0.85

FLAGS = flags.FLAGS
flags.DEFINE_list("nets", list(SHAPES), "Nets to time.")
flags.DEFINE_list("parts", ["step", "run", "accuracy"], "What to measure.")
flags.DEFINE_integer("batch", 64, "Batch size.")
flags.DEFINE_integer("repeats", 15, "Timed rounds of steps of each model.")
flags.DEFINE_integer("epochs", 12, "Epochs of the whole runs.")
flags.DEFINE_integer("slim_every", 1, "Epochs between cuts in the whole runs; 0 for none.")
flags.DEFINE_float("shorter", 1.0, "Share of the steps of the whole runs.")
flags.DEFINE_float("target", 0.5, "Share of the MACs to remove.")
flags.DEFINE_string("data", "/usr/share/datasets/fashion-mnist", "Folder of idx files.")
flags.DEFINE_integer("images", 6_000, "Training images of the accuracies.")
flags.DEFINE_integer("accuracy_epochs", 8, "Epochs of the accuracies.")
flags.DEFINE_integer("seeds", 3, "Seeds of the accuracies.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), loss, metrics=["accuracy"])
    return model


def batches(name, number):
    """Pictures of noise, each class with a mean of its own."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 10, number)
    means = generator.normal(size=(10, *SHAPES[name])).astype("float32")
    noise = generator.normal(size=(number, *SHAPES[name])).astype("float32")
    return means[y] + noise, y


def step_ratio(name):
    """Median seconds of a training step, dense and wrapped in turn."""
    keras.utils.set_random_seed(0)
    dense = NETS[name](SHAPES[name], 10)
    models = [compiled(model) for model in (dense, resrep_keras.wrap(dense))]
    x, y = batches(name, FLAGS.batch)
    calls = [lambda m=m: m.train_on_batch(x, y) for m in models]
    seconds = median_seconds(calls, repeats=FLAGS.repeats, warmup=3)
    return {
        "net": name,
        "dense_seconds": round(seconds[0], 5),
        "wrapped_seconds": round(seconds[1], 5),
        "ratio": round(seconds[1] / seconds[0], 3),
    }


class StopAfterEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


class DenseInTurn(keras.callbacks.Callback):
    """Trains the dense model for one epoch before each of another model's, and times both."""

    def __init__(self, dense, fit):
        super().__init__()
        self._dense, self._fit = dense, fit
        self.dense_seconds, self.own_seconds, self.accuracy = [], [], None

    def on_train_begin(self, logs=None):
        self._since = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        begin = time.perf_counter()
        if epoch:
            self.own_seconds.append(begin - self._since)
        history = self._fit(self._dense, [StopAfterEpoch()], initial_epoch=epoch).history
        self.accuracy = round(history["accuracy"][-1], 4)
        end = time.perf_counter()
        self.dense_seconds.append(end - begin)
        if epoch:
            self._since = end
        else:
            self._since += end - begin  # what comes before the first epoch counts

    def finish(self):
        self.own_seconds.append(time.perf_counter() - self._since)


def trained(name, fit):
    """A dense net that has been trained for some epochs, as one is that is to be pruned."""
    keras.utils.set_random_seed(0)
    dense = NETS[name](SHAPES[name], 10)
    for layer in dense.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = NORM_MOMENTUM
    fit(compiled(dense), [], epochs=TRAINED_EPOCHS)
    copy = keras.models.clone_model(dense)
    copy.set_weights(dense.get_weights())
    return copy  # whose training step is not compiled yet


def dataset(name, steps):
    """Shuffled batches, without the thread that tunes how they are fed.

    Where a pass over the data ends, TensorFlow 2.21 often waits until that thread wakes up, at
    0.01 * (2**k - 1) seconds: epochs of 21 to 40 seconds would all seem to take 41.
    """
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(batches(name, steps * FLAGS.batch))
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.shuffle(steps * FLAGS.batch, seed=0).batch(FLAGS.batch).with_options(options)


def run_ratio(name):
    """Seconds of whole runs, plain and with early removal, one epoch of each in turn."""
    steps = max(1, round(FLAGS.shorter * STEPS[name]))
    data = dataset(name, steps)

    def fit(model, callbacks, epochs=FLAGS.epochs, **given):
        return model.fit(
            data, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, **given
        )

    dense = trained(name, fit)
    every = FLAGS.slim_every or None
    method = resrep_keras.ResRep(FLAGS.target, slim_every=every, **SETTINGS.get(name, {}))
    model = compiled(resrep_keras.wrap(dense, method))
    timer = DenseInTurn(compiled(dense), fit)
    history = fit(model, [timer]).history
    timer.finish()
    seconds = timer.dense_seconds, timer.own_seconds
    dense_seconds, slimming_seconds = map(sum, seconds)
    slim = resrep_keras.finalize(model, strict=True)
    differences = model.baseline.removal.differences
    return {
        "net": name,
        "epochs": FLAGS.epochs,
        "steps": steps,
        "settings": {k: repr(v) for k, v in SETTINGS.get(name, {}).items()},
        "dense_seconds": round(dense_seconds, 2),
        "slimming_seconds": round(slimming_seconds, 2),
        "ratio": round(slimming_seconds / dense_seconds, 3),
        "macs_left": round(slim.certificate.macs_left, 4),
        "cuts": len(differences),
        "largest_difference": max(differences, default=0.0),
        "epoch_ratios": [round(b / a, 3) for a, b in zip(*seconds)],
        "accuracy": [timer.accuracy, round(history["accuracy"][-1], 4)],
    }


def accuracies():
    """Test accuracy of a small net, with and without early removal."""
    (x, y), (x_test, y_test) = load_idx(FLAGS.data)
    x, y = x[: FLAGS.images], y[: FLAGS.images]
    rows = []
    for seed in range(FLAGS.seeds):
        row = {"seed": seed}
        for name, every in (("without", None), ("with", 1)):
            keras.utils.set_random_seed(seed)
            dense = NETS["small_resnet"](x.shape[1:], 10)
            method = resrep_keras.ResRep(FLAGS.target, slim_every=every)
            model = resrep_keras.wrap(dense, method)
            steps = FLAGS.accuracy_epochs * -(-len(x) // FLAGS.batch)
            rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss)
            model.fit(x, y, FLAGS.batch, FLAGS.accuracy_epochs, verbose=0)
            slim = resrep_keras.finalize(model, strict=True)
            labels = slim.predict(x_test, batch_size=512, verbose=0).argmax(axis=-1)
            row[name] = round(100 * float((labels == y_test).mean()), 2)
        rows.append(row)
        print(row, flush=True)
    return rows


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; batch {result['batch']}, "
        f"target_reduction {result['target']}.",
        "",
        f"A training step, wrapped over dense, before any selection (limit {STEP_LIMIT}):",
        "",
    ]
    header = ("net", "dense (s)", "wrapped (s)", "ratio")
    table = []
    for row in result["step"]:
        table.append((row["net"], row["dense_seconds"], row["wrapped_seconds"], row["ratio"]))
    lines += markdown_table(header, table)
    if result["run"]:
        lines += _run_lines(result["run"])
    if result["accuracy"]:
        with_, without = ([row[name] for row in result["accuracy"]] for name in ("with", "without"))
        lines += [
            "",
            f"Test accuracy of small_resnet on {result['images']:,} images of Fashion-MNIST, "
            f"{result['accuracy_epochs']} epochs, {len(with_)} seeds: {_spread(with_)} with "
            f"early removal, {_spread(without)} without.",
        ]
    return "\n".join(lines) + "\n"


def _run_lines(rows):
    lines = [
        "",
        f"A whole run with `slim_every=1` over plain dense training (limit {RUN_LIMIT}), both from "
        f"a net of {TRAINED_EPOCHS} epochs, with the time to compile anew:",
        "",
    ]
    header = (
        "net",
        "epochs x steps",
        "dense (s)",
        "early removal (s)",
        "ratio",
        "MACs left",
        "cuts",
        "largest difference at a cut",
        "train accuracy: dense, early removal",
    )
    table = []
    for row in rows:
        table.append(
            (
                _named(row),
                f"{row['epochs']} x {row['steps']}",
                row["dense_seconds"],
                row["slimming_seconds"],
                row["ratio"],
                row["macs_left"],
                row["cuts"],
                f"{row['largest_difference']:.1e}",
                ", ".join(map(str, row["accuracy"])),
            )
        )
    lines += markdown_table(header, table)
    return lines


def _named(row):
    settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
    return f"{row['net']} ({settings})" if settings else row["net"]


def _spread(values):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} % (standard deviation {deviation:.2f})"


def main(_):
    logging.set_verbosity(logging.WARNING)
    path = RESULTS / "training_time.json"
    before = json.loads(path.read_text()) if path.exists() and FLAGS.write else {}
    result = {
        "command": "python benchmarks/training_time.py",
        "machine": machine(),
        "batch": FLAGS.batch,
        "target": FLAGS.target,
        "images": FLAGS.images,
        "accuracy_epochs": FLAGS.accuracy_epochs,
        "accuracy": before.get("accuracy", []),
    }
    for part, measure in (("step", step_ratio), ("run", run_ratio)):
        rows = {row["net"]: row for row in before.get(part, [])}
        for name in FLAGS.nets if part in FLAGS.parts else ():
            rows[name] = measure(name)
            print(rows[name], flush=True)
        result[part] = [rows[name] for name in SHAPES if name in rows]
    if "accuracy" in FLAGS.parts:
        result["accuracy"] = accuracies()
    text = as_markdown(result)
    print(text)
    if FLAGS.write:
        write_result(result, text)
    slow = [row["net"] for row in result["step"] if row["ratio"] > STEP_LIMIT]
    long = [row["net"] for row in result["run"] if row["ratio"] > RUN_LIMIT]
    if slow or long:
        raise SystemExit(f"Over the limit of a step: {slow}; of a whole run: {long}.")


if __name__ == "__main__":
    app.run(main)
