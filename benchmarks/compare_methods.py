"""All methods that remove channels, at the same cost: one table.

    python benchmarks/compare_methods.py --data_dir=<folder of idx files>

Each seed trains one dense net on a part of Fashion-MNIST; each method goes on from it with the same
recipe for the same number of epochs, and removes the same share of the MACs. Finished runs are kept
in the work folder, so that a comparison that was stopped goes on. Writes
`benchmarks/results/compare_methods.json`, `.md` and `.png`.
"""

import json
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import datasets
import keras
import nets
import numpy as np
from absl import app, flags
from common import machine

import resrep_keras

FLAGS = flags.FLAGS

# What prunes: the title, and the method for a target and a seed.
METHODS = {
    "random": ("random channels", lambda cut, seed: resrep_keras.RandomPruning(cut, seed=seed)),
    "l1": ("L1 of kernels", lambda cut, seed: resrep_keras.MagnitudePruning(cut)),
    "fpgm": ("FPGM", lambda cut, seed: resrep_keras.FPGM(cut)),
    "taylor": ("Taylor", lambda cut, seed: resrep_keras.TaylorPruning(cut)),
    "slimming": (
        "network slimming",
        lambda cut, seed: resrep_keras.NetworkSlimming(cut, strength=FLAGS.slimming_strength),
    ),
    "lasso": (
        "group lasso on kernels",
        lambda cut, seed: resrep_keras.GroupLasso(cut, strength=FLAGS.lasso_strength),
    ),
    "aofp": ("AOFP", lambda cut, seed: resrep_keras.AOFP(cut, seed=seed)),
    "resrep": ("ResRep", lambda cut, seed: resrep_keras.ResRep(cut)),
}
# What does not: the dense net that goes on, and nets of ResRep's widths that start anew.
OTHERS = {
    "longer": "dense, trained on",
    "scratch": "ResRep's widths from scratch",
}
TITLES = {**{name: title for name, (title, _) in METHODS.items()}, **OTHERS}

flags.DEFINE_string("data_dir", "/usr/share/datasets/fashion-mnist", "Folder of the idx files.")
flags.DEFINE_string("work_dir", "/tmp/resrep_compare_methods", "Where finished runs are kept.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds to train.")
flags.DEFINE_list("methods", ["longer", *METHODS, "scratch"], "What to compare.")
flags.DEFINE_integer("images", 10_000, "Training images.")
flags.DEFINE_integer("test_images", 10_000, "Test images.")
flags.DEFINE_integer("dense_epochs", 6, "Epochs of the dense net.")
flags.DEFINE_integer("epochs", 10, "Epochs of each run that goes on from it.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_float("slimming_strength", 1e-3, "Strength of NetworkSlimming.")
flags.DEFINE_float("lasso_strength", 3e-4, "Strength of GroupLasso.")
flags.DEFINE_integer("threads", 0, "Threads of TensorFlow; 0 lets it choose.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")

BATCH = 128
RESULTS = pathlib.Path(__file__).parent / "results"


def fit(model, data, epochs, seed):
    """SGD with momentum 0.9, weight decay 5e-3 and a cosine rate from 0.05."""
    x, y = data[0]
    keras.utils.set_random_seed(1000 + seed)
    rate = keras.optimizers.schedules.CosineDecay(0.05, epochs * -(-len(x) // BATCH))
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)


def accuracy(model, data):
    """Test accuracy in percent."""
    x, y = data[1]
    predicted = model.predict(x, batch_size=min(1000, len(x)), verbose=0).argmax(-1)
    return round(100 * float((predicted == y).mean()), 2)


def kept(path, make):
    """What `make` wrote to a path, once: a run that is stopped leaves nothing behind."""
    if not path.exists():
        beside = path.with_name(f"unfinished_{path.name}")
        make(beside)
        os.replace(beside, path)
    return path


def dense_net(data, seed):
    def train(path):
        keras.utils.set_random_seed(seed)
        model = nets.small_resnet((28, 28, 1), 10)
        fit(model, data, FLAGS.dense_epochs, seed)
        model.save(path)

    path = kept(pathlib.Path(FLAGS.work_dir) / f"dense_{seed}.keras", train)
    return keras.models.load_model(path, compile=False)


def trained(name, dense, data, seed):
    """The model at the end of a run: slim, or one of the others."""
    if name in METHODS:
        model = resrep_keras.wrap(dense, METHODS[name][1](FLAGS.target_reduction, seed))
        fit(model, data, FLAGS.epochs, seed)
        return resrep_keras.finalize(model, strict=True)
    model, epochs = dense, FLAGS.epochs
    if name == "scratch":
        keras.utils.set_random_seed(seed)
        model = resrep_keras.redesign(dense, run("resrep", data, seed)["widths"])
        epochs += FLAGS.dense_epochs
    fit(model, data, epochs, seed)
    return model


def run(name, data, seed):
    """The record of a run."""

    def train(path):
        dense, begin = dense_net(data, seed), time.process_time()
        model = trained(name, dense, data, seed)
        record = {
            "accuracy": accuracy(model, data),
            "dense_accuracy": accuracy(dense_net(data, seed), data),
            "macs_left": round(resrep_keras.count_macs(model) / resrep_keras.count_macs(dense), 4),
            "cpu_seconds": round(time.process_time() - begin, 1),
            "widths": resrep_keras.widths_of(model),
        }
        path.write_text(json.dumps(record))

    return json.loads(kept(pathlib.Path(FLAGS.work_dir) / f"{name}_{seed}.json", train).read_text())


def spread(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def mean_and_spread(runs, key):
    values = [run[key] for run in runs]
    return f"{np.mean(values):.2f} ± {spread(values):.2f}"


def as_markdown(result):
    first, second = result["epochs"]
    runs = result["runs"]
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; small_resnet, {result['images']:,} "
        f"images of Fashion-MNIST, {len(result['seeds'])} seeds, mean and sample standard deviation. "
        f"All start from the same dense net of {first} epochs, which has "
        f"{mean_and_spread(next(iter(runs.values())), 'dense_accuracy')} %, and train {second} epochs "
        f"more by the same recipe; target_reduction={result['target_reduction']}.",
        "",
        "| method | test accuracy (%) | by seed | to the dense net of the same seed | MACs left (%) | "
        "CPU time, dense = 1 |",
        "|---|---|---|---|---|---|",
    ]
    for name in ranked(runs):
        left = 100 * np.mean([run["macs_left"] for run in runs[name]])
        pairs = list(zip(runs[name], runs.get("longer", runs[name])))
        behind = [run["accuracy"] - dense["accuracy"] for run, dense in pairs]
        times = [run["cpu_seconds"] / dense["cpu_seconds"] for run, dense in pairs]
        by_seed = ", ".join(f"{run['accuracy']:.2f}" for run in runs[name])
        lines.append(
            f"| {TITLES[name]} | {mean_and_spread(runs[name], 'accuracy')} | {by_seed} | "
            f"{np.mean(behind):+.2f} ± {spread(behind):.2f} | {left:.1f} | {np.median(times):.2f} |"
        )
    settings = ", ".join(f"{key}={value:g}" for key, value in result["strengths"].items())
    end = (
        f"Strengths of the penalties, chosen on another seed: {settings}. What starts from scratch "
        f"trains {first + second} epochs."
    )
    return "\n".join([*lines, "", end]) + "\n"


def ranked(runs):
    """Names by their mean accuracy, the best first."""
    return sorted(runs, key=lambda name: -np.mean([run["accuracy"] for run in runs[name]]))


def plot(result):
    """Mean and range of the accuracy by method, as a figure."""
    from matplotlib.figure import Figure

    runs = result["runs"]
    names = ranked(runs)[::-1]
    figure = Figure(figsize=(7, 0.6 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = [run["accuracy"] for run in runs[name]]
        color = {"resrep": "#2f6fb5", "longer": "#222222"}.get(name, "#c7622b")
        axes.plot([min(values), max(values)], [place] * 2, color=color, lw=2, alpha=0.4)
        axes.plot(values, [place] * len(values), "o", color=color, ms=3, alpha=0.5, mew=0)
        axes.plot(np.mean(values), place, "D", color=color, ms=6, mew=0)
    axes.set_yticks(range(len(names)), [TITLES[name] for name in names])
    axes.set_xlabel("test accuracy (%)")
    axes.set_title(
        f"{100 * result['target_reduction']:.0f} % of the MACs removed, equal epochs; mean and range "
        f"of {len(result['seeds'])} seeds",
        fontsize=9,
    )
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def load_data():
    """`((x, y), (x, y))`: the training images and the test images that the flags ask for."""
    (x, y), (test_x, test_y) = datasets.load("fashion_mnist", FLAGS.data_dir)
    test = test_x[: FLAGS.test_images], test_y[: FLAGS.test_images]
    return (x[: FLAGS.images], y[: FLAGS.images]), test


def limit_threads():
    if FLAGS.threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)


def main(_):
    limit_threads()
    pathlib.Path(FLAGS.work_dir).mkdir(parents=True, exist_ok=True)
    data = load_data()
    runs = {name: [] for name in FLAGS.methods}
    for seed in map(int, FLAGS.seeds):
        for name in FLAGS.methods:
            runs[name].append(run(name, data, seed))
            print(f"seed {seed}: {name}: {runs[name][-1]}", flush=True)
    result = {
        "command": "python benchmarks/compare_methods.py",
        "machine": machine(),
        "seeds": FLAGS.seeds,
        "images": FLAGS.images,
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": FLAGS.target_reduction,
        "strengths": {"slimming": FLAGS.slimming_strength, "lasso": FLAGS.lasso_strength},
        "runs": runs,
    }
    print(as_markdown(result))
    if FLAGS.write:
        (RESULTS / "compare_methods.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "compare_methods.md").write_text(as_markdown(result))
        plot(result).savefig(RESULTS / "compare_methods.png", dpi=120)


if __name__ == "__main__":
    app.run(main)
