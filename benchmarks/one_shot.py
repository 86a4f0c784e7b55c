"""What is left without training: L1, scores on data, layers fitted anew, statistics taken again.

    python benchmarks/one_shot.py --data_dir=<folder of idx files>

Each seed trains dense nets on a part of Fashion-MNIST. Each is pruned at once, with images that it
has not seen, and tested. Then ResNet-50 of random weights is pruned on random images, in a process
of its own, for time and memory. Finished runs are kept in the work folder. Writes
`benchmarks/results/one_shot.json` and `.md`.
"""

import json
import pathlib
import resource
import subprocess
import sys
import time
from unittest import mock

import keras
import numpy as np
import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.channels import finalize
from resrep_keras.surgery.examples import Examples
from resrep_keras.surgery.statistics import retake_statistics

FLAGS = flags.FLAGS
flags.DEFINE_integer("dense_epochs", 8, "Epochs of the dense net.")
flags.DEFINE_integer("examples", 1500, "Images that nets are pruned on.")
flags.DEFINE_list("reductions", ["0.3", "0.5"], "Shares of the MACs to remove.")
flags.DEFINE_list("nets", ["small_resnet_24", "small_resnet", "small_vgg"], "Nets to prune.")
flags.DEFINE_integer("large_examples", 1500, "Images for ResNet-50; 0 leaves it out.")
flags.DEFINE_bool("large_alone", False, "Only prune ResNet-50, and print seconds and memory.")

NETS = {
    "small_resnet_24": lambda *shape: trials.nets.small_resnet(*shape, width=24),
    "small_resnet": trials.nets.small_resnet,
    "small_vgg": trials.nets.small_vgg,
}
COLUMNS = (
    "dense",
    "dense, statistics",
    "L1",
    "Fisher",
    "Fisher, repair",
    "Fisher, repair, statistics",
)


def dense_net(net, data, seed):
    """The net of a seed, trained once, and compiled for its labels."""

    def train(path):
        keras.utils.set_random_seed(seed)
        model = NETS[net]((28, 28, 1), 10)
        trials.fit(model, data, FLAGS.dense_epochs, seed)
        model.save(path)

    path = trials.kept(trials.work_dir() / f"{net}_{seed}.keras", train)
    model = keras.models.load_model(path, compile=False)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def with_statistics(dense, examples):
    """A copy whose batch normalisations have taken their statistics again: no channel goes."""
    copy = keras.models.clone_model(dense)
    copy.set_weights(dense.get_weights())
    retake_statistics(recording_of(copy), Examples(copy, examples))
    return copy


def run(net, reduction, data, examples, seed):
    """Test accuracies of a net that is pruned at once."""

    def prune(_):
        dense, found = dense_net(net, data, seed), {}
        found["dense"] = trials.accuracy(dense, data)
        found["dense, statistics"] = trials.accuracy(with_statistics(dense, examples), data)
        l1 = resrep_keras.MagnitudePruning(reduction)
        found["L1"] = trials.accuracy(resrep_keras.prune(dense, l1), data)
        method = resrep_keras.TaylorPruning(reduction)
        removed = resrep_keras.prune(dense, method, data=examples, repair=False)
        found["Fisher"] = trials.accuracy(removed, data)
        begin = time.perf_counter()
        slim = resrep_keras.prune(dense, method, data=examples)
        found["seconds"] = round(time.perf_counter() - begin, 1)
        found["Fisher, repair, statistics"] = trials.accuracy(slim, data)
        # The library does both or none of it.
        with mock.patch.object(finalize, "retake_statistics", lambda *_: ()):
            fitted = resrep_keras.prune(dense, method, data=examples)
        found["Fisher, repair"] = trials.accuracy(fitted, data)
        found["macs_left"] = round(slim.certificate.macs_left, 4)
        return found

    return trials.record(f"{net}_{reduction}_{seed}", prune)


def large():
    """Seconds and peak memory of pruning ResNet-50 by half, in this process."""
    trials.set_threads()
    keras.utils.set_random_seed(0)
    model = trials.nets.resnet50()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(FLAGS.large_examples, 224, 224, 3)).astype("float32")
    before, begin = _peak(), time.perf_counter()
    slim = resrep_keras.prune(model, resrep_keras.TaylorPruning(0.5), data=x)
    return {
        "examples": FLAGS.large_examples,
        "seconds": round(time.perf_counter() - begin),
        "gigabytes_before": round(before, 2),
        "gigabytes": round(_peak(), 2),
        "repaired": len(slim.certificate.repaired),
        "macs_left": round(slim.certificate.macs_left, 4),
    }


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def large_apart():
    """What `large` returns, from a process of its own."""
    command = [sys.executable, __file__, "--large_alone", f"--threads={FLAGS.threads}"]
    command.append(f"--large_examples={FLAGS.large_examples}")
    folder = pathlib.Path(__file__).parents[1]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder)
    return json.loads(told.stdout.splitlines()[-1])


def as_markdown(result):
    number = len(result["seeds"])
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {number} seeds, mean and sample "
        f"standard deviation of the test accuracy (%); dense nets of {result['epochs']} epochs on "
        f"{result['images']:,} images, pruned at once on {result['examples']:,} others. Nothing is "
        "trained after the removal. `L1` reads no data; `dense, statistics` is the dense net whose "
        "batch normalisations took their statistics again, on the same images.",
        "",
    ]
    header = ("net", "removed", *COLUMNS, "seconds")
    table = []
    for name, runs in result["runs"].items():
        net, reduction = name.rsplit(" ", 1)
        cells = [mean_and_spread([each[c] for each in runs]) for c in COLUMNS]
        seconds = max(each["seconds"] for each in runs)
        table.append((net, reduction, *cells, f"{seconds:.0f}"))
    lines += markdown_table(header, table)
    if result["resnet50"]:
        found = result["resnet50"]
        lines += [
            "",
            f"ResNet-50 at 224 x 224, random weights, half of the MACs, {found['examples']:,} "
            f"images: {found['seconds']:,} seconds; peak memory of the process "
            f"{found['gigabytes']} GiB, of which {found['gigabytes_before']} with the model and "
            f"the images before. {found['repaired']} layers were fitted or given statistics.",
        ]
    return "\n".join(lines) + "\n"


def main(_):
    if FLAGS.large_alone:
        print(json.dumps(large()))
        return
    data = trials.begin()
    (x, y), _ = trials.datasets.load("fashion_mnist", FLAGS.data_dir)
    unseen = slice(FLAGS.images, FLAGS.images + FLAGS.examples)
    examples = x[unseen], y[unseen]
    names = [f"{net} {reduction}" for net in FLAGS.nets for reduction in FLAGS.reductions]

    def one(name, seed):
        net, reduction = name.rsplit(" ", 1)
        return run(net, float(reduction), data, examples, seed)

    result = {
        **trials.origin(),
        "epochs": FLAGS.dense_epochs,
        "examples": FLAGS.examples,
        "runs": trials.records(names, one),
    }
    large_one = FLAGS.large_examples and trials.record("resnet50", lambda _: large_apart())
    trials.publish({**result, "resnet50": large_one}, as_markdown)


if __name__ == "__main__":
    app.run(main)
