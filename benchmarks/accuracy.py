"""Accuracy at equal cost: nets x reductions x seeds x methods, and what ResRep's defaults rest on.

    python benchmarks/accuracy.py --data_dir=<folder of idx files>
    python benchmarks/accuracy.py --data_dir=<folder of idx files> --variants

Each seed trains a dense net for each architecture on a part of Fashion-MNIST; each method goes on
from it with the same recipe for the same number of epochs, and removes the same share of the MACs.
Defaults are chosen by `--variants`, on seeds 10 to 12 and images 40,000 to 60,000 of the training
set alone; the table is made of seeds 0 to 4, other training images and the test set.

Runs go on in `--jobs` processes side by side, in the order of their value, until all are done or
`--time_limit` is over; each is kept as a JSON in the work folder, so that a benchmark that was
stopped goes on. It runs on any backend, without TensorFlow, too. Writes
`benchmarks/results/accuracy.json` and `.md` (`accuracy_variants` with `--variants`).
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# What one process has compiled, such as the small programs of `wrap`, the others read.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "/tmp/resrep_accuracy_compiled")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import accuracy_grids as grids
import accuracy_tables as tables
import datasets
import numpy as np
import pool
import programs
import trials
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_bool("variants", False, "Whether to compare settings of ResRep instead of methods.")
flags.DEFINE_list("settings", list(grids.VARIANTS), "With --variants: which to compare.")
flags.DEFINE_list("nets", list(programs.NETS), "Architectures.")
flags.DEFINE_integer("jobs", 2, "Processes side by side.")
flags.DEFINE_float("time_limit", 1e9, "Seconds after which no run is begun.")
flags.DEFINE_string("collect", None, "A JSONL file to which each result is added, too.")
flags.DEFINE_bool("worker", False, "Be one of the processes; for this program alone.")
flags.DEFINE_integer("dense_epochs", 8, "Epochs of the dense net, which each run goes on from.")
flags.DEFINE_bool("both", False, "Whether to choose settings first, and make the table of these.")
flags.DEFINE_float("choice_limit", 1e9, "With --both: seconds after which it goes on.")
flags.DEFINE_string("peers", None, "Work folder of torch_pruning.py, to be shown, too.")
flags.DEFINE_integer("most_stages", 1000, "How many stages of the grid to run.")
FLAGS.set_default("seeds", None)  # 10 to 12 with --variants, else 0 to 4
FLAGS.set_default("images", 12_000)
FLAGS.set_default("epochs", 8)

CHOICE = slice(40_000, 60_000)  # of the training set: where defaults are chosen
HELD_OUT = 8_000  # of these, the last


def images(split):
    """`((x, y), (x, y))`: what is trained on, and what accuracy is measured on."""
    (x, y), test = datasets.load("fashion_mnist", FLAGS.data_dir)
    if split == "choice":
        x, y = x[CHOICE], y[CHOICE]
        test = x[-HELD_OUT:], y[-HELD_OUT:]
        x, y = x[:-HELD_OUT], y[:-HELD_OUT]
    number = FLAGS.images // programs.BATCH * programs.BATCH
    return (x[:number], y[:number]), tuple(part[: FLAGS.test_images] for part in test)


class Runs:
    """What a worker does with a task; it keeps the programs that it has compiled."""

    def __init__(self):
        self._data = {split: images(split) for split in ("choice", "table")}
        self._programs, self._dense = {}, {}

    def __call__(self, task):
        epochs, seed, data = task["epochs"], task["seed"], self._data[task["split"]]
        method = grids.method_of(task)
        program = self._program(task, method, data)
        kept = trials.work_dir() / f"dense_{task['net']}_{seed}.npz"
        if task["name"].startswith("dense"):
            program.begin(None, seed)
            result = program.fit(None, data, epochs, seed)
            with open(kept, "wb") as file:
                np.savez(file, **_flat(program.weights()))
            return result
        program.begin(self._weights(kept), seed)
        result = program.fit(method, data, epochs, seed)
        return {**result, "seconds_to_compile": program.seconds}

    def _program(self, task, method, data):
        if task["program"] not in self._programs:
            steps = task["epochs"] * (len(data[0][0]) // programs.BATCH)
            made = programs.Program(task["net"], method, steps, data)
            self._programs[task["program"]] = made
        return self._programs[task["program"]]

    def _weights(self, path):
        if path not in self._dense:
            with np.load(path) as file:
                self._dense[path] = _nested(file)
        return self._dense[path]


def _flat(weights):
    """Lists of arrays as one dict, `{"layer.weight": array}`."""
    return {f"{i}.{k}": value for i, own in enumerate(weights) for k, value in enumerate(own)}


def _nested(arrays):
    found = {}
    for name in arrays:
        layer, weight = map(int, name.split("."))
        found.setdefault(layer, {})[weight] = arrays[name]
    return [[own[k] for k in sorted(own)] for _, own in sorted(found.items())]


def main(_):
    if FLAGS.worker:
        return pool.serve(Runs())
    FLAGS.seeds = FLAGS.seeds or (["10", "11", "12"] if FLAGS.variants else list("01234"))
    seeds = list(map(int, FLAGS.seeds))
    run = FLAGS.dense_epochs, FLAGS.epochs
    if FLAGS.variants:
        stages = grids.variant_stages(FLAGS.nets, seeds, *run, FLAGS.settings)
    else:
        stages = grids.table_stages(FLAGS.nets, seeds, *run)
    stages = stages[: FLAGS.most_stages]
    if FLAGS.both:
        choice = grids.variant_stages(FLAGS.nets, [10, 11, 12], *run, FLAGS.settings)
        stages = choice[:3] + stages
    plan = pool.Plan(stages, trials.work_dir(), FLAGS.collect, FLAGS.time_limit)
    plan.limit("choice", FLAGS.choice_limit)
    pool.run_all(plan, FLAGS.jobs)
    result = {
        **trials.origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "chosen": grids.chosen(plan.results),
        "runs": sorted(plan.results.values(), key=lambda run: run["name"]),
    }
    for split in ("choice", "table"):
        if FLAGS.peers:
            result["runs"] += tables.kept_runs(FLAGS.peers, split)
        if any(run["split"] == split for run in result["runs"]):
            tables.publish(result, split, FLAGS.write)


if __name__ == "__main__":
    app.run(main)
