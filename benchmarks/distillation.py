"""Pruning with and without a teacher: what the outputs of the dense net add to the labels.

    python benchmarks/distillation.py --data_dir=<folder of idx files>

Each seed trains one dense net on a part of Fashion-MNIST; ResRep goes on from it with the same
recipe for the same number of epochs: by the labels alone, with the dense net for a teacher
(`wrap(dense, method, teacher=dense)`), and with the dense net that has trained on as long. Finished
runs are kept in the work folder, so that a benchmark that was stopped goes on. Writes
`benchmarks/results/distillation.json` and `.md`, or files of another name (`--name`).
"""

import keras
import numpy as np
import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras

FLAGS = flags.FLAGS
flags.DEFINE_integer("dense_epochs", 8, "Epochs of the dense net, which each run goes on from.")
flags.DEFINE_list("reductions", ["0.5", "0.7"], "Shares of the MACs to remove.")
flags.DEFINE_list("ways", ["labels", "teacher", "longer"], "What they are trained by.")
flags.DEFINE_string("name", "distillation", "Name of the result files.")
flags.DEFINE_float("weight", 1.0, "Weight of the divergence.")
flags.DEFINE_float("temperature", 3.0, "Temperature of the divergence.")
FLAGS.set_default("images", 6000)
FLAGS.set_default("epochs", 12)
FLAGS.set_default("pooled", 2)

LONGER = "longer"
WAYS = {
    "labels": "labels",
    "teacher": "labels and the dense net",
    "longer": "labels and the dense net, trained on",
}


def names():
    """One name a run of a seed: `"longer"`, or a reduction and a way, such as `"0.5_teacher"`."""
    return [LONGER, *(f"{share}_{way}" for share in FLAGS.reductions for way in FLAGS.ways)]


def longer_net(data, seed):
    """The dense net of a seed that goes on for as long as it is pruned otherwise, trained once."""

    def train(path):
        model = trials.dense_net(data, seed, FLAGS.dense_epochs)
        trials.fit(model, data, FLAGS.epochs, seed)
        model.save(path)

    path = trials.kept(trials.work_dir() / f"longer_{seed}.keras", train)
    return keras.models.load_model(path, compile=False)


def teacher_of(way, dense, data, seed):
    """The `Distillation` of a way, `None` of one by labels alone."""
    if way == "labels":
        return None
    teacher = dense if way == "teacher" else longer_net(data, seed)
    return resrep_keras.Distillation(teacher, FLAGS.weight, FLAGS.temperature)


def run(name, data, seed):
    """The record of a run."""

    def train(_):
        dense = trials.dense_net(data, seed, FLAGS.dense_epochs)
        before, macs = trials.accuracy(dense, data), resrep_keras.count_macs(dense)
        if name == LONGER:
            model = longer_net(data, seed)
        else:
            share, way = name.split("_")
            method, teacher = resrep_keras.ResRep(float(share)), teacher_of(way, dense, data, seed)
            wrapped = resrep_keras.wrap(dense, method, teacher)
            trials.fit(wrapped, data, FLAGS.epochs, seed)
            model = resrep_keras.finalize(wrapped, strict=True)
        return {
            "accuracy": trials.accuracy(model, data),
            "dense_accuracy": before,
            "macs_left": round(resrep_keras.count_macs(model) / macs, 4),
        }

    return trials.record(f"{name}_{seed}", train)


def as_markdown(result):
    runs, (first, second) = result["runs"], result["epochs"]
    longer = [each["accuracy"] for each in runs[LONGER]]
    before = [each["dense_accuracy"] for each in runs[LONGER]]
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; small_resnet, {result['images']:,} "
        f"images of Fashion-MNIST, {trials.size(result['pooled'])}, "
        f"{len(result['seeds'])} seeds, mean and sample standard "
        f"deviation. All start from the same dense net of {first} epochs, which has "
        f"{mean_and_spread(before)} %, and train {second} epochs more by the same recipe, in "
        f"batches of {result['batch_size']}; the "
        f"dense net that does so, too, has {mean_and_spread(longer)} %. Weight of the divergence "
        f"{result['weight']:g}, temperature {result['temperature']:g}, neither of them tuned.",
        "",
        "| MACs to remove (%) | trained by | test accuracy (%) | by seed | to the dense net of the "
        "same seed | MACs left (%) |",
        "|---|---|---|---|---|---|",
    ]
    for name in runs:
        if name == LONGER:
            continue
        share, way = name.split("_")
        values = [each["accuracy"] for each in runs[name]]
        behind = np.subtract(values, longer)
        left = 100 * np.mean([each["macs_left"] for each in runs[name]])
        lines.append(
            f"| {100 * float(share):g} | {WAYS[way]} | {mean_and_spread(values)} | "
            f"{trials.by_seed(values)} | {mean_and_spread(behind)} | {left:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(_):
    data = trials.begin()
    trials.publish(
        {
            **trials.origin(),
            "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
            "pooled": FLAGS.pooled,
            "batch_size": FLAGS.batch_size,
            "weight": FLAGS.weight,
            "temperature": FLAGS.temperature,
            "runs": trials.records(names(), lambda name, seed: run(name, data, seed)),
        },
        as_markdown,
        FLAGS.name,
    )


if __name__ == "__main__":
    app.run(main)
