"""ResRep and one-shot L1 against the dense model on Fashion-MNIST (60,000 images).

    python benchmarks/fashion_mnist.py --data_dir=/usr/share/datasets/fashion-mnist

Each seed trains a dense residual net, then goes on from it in three ways for the same number of
epochs and with the same recipe: dense, pruned by ResRep with default settings, pruned by one-shot
L1. Phases are kept in --work_dir, so that a run that was stopped goes on. Results go to
benchmarks/results/fashion_mnist.json, .md and .png.
"""

import time

import keras
import numpy as np
import trials
from absl import app, flags
from common import RESULTS

import resrep_keras
from resrep_keras.common.files import write, write_figure
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS
FLAGS.set_default("images", 60_000)
FLAGS.set_default("epochs", 15)
flags.DEFINE_integer("dense_epochs", 10, "Epochs of the first, dense phase.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_enum("normalization", "none", ["none", "layer"], "What ResRep compares; see there.")
flags.DEFINE_list("phases", [], "Train only these phases; all where empty.")


def load(phase, seed):
    """The model of a finished phase."""
    return keras.models.load_model(trials.work_dir() / f"{phase}_{seed}.keras", compile=False)


def record(phase, data, seed):
    """What is told of a phase; its model is in a file beside."""

    def make(path):
        model, told = PHASES[phase](data, seed)
        write(path.with_suffix(".keras"), model.save)
        return told

    return trials.record(f"{phase}_{seed}", make)


def fit(model, data, epochs, seed):
    begin = time.time()
    history = trials.fit(model, data, epochs, seed, verbose=2, validation_data=data[1])
    curve = [round(100 * value, 2) for value in history.history["val_accuracy"]]
    return {"accuracy": curve[-1], "curve": curve, "seconds": round(time.time() - begin, 1)}


def train_dense(data, seed):
    keras.utils.set_random_seed(seed)
    model = trials.nets.small_resnet((28, 28, 1), 10)
    return model, fit(model, data, FLAGS.dense_epochs, seed)


def train_longer(data, seed):
    model = load("dense", seed)
    return model, fit(model, data, FLAGS.epochs, seed)


def train_resrep(data, seed):
    dense = load("dense", seed)
    method = resrep_keras.ResRep(
        target_reduction=FLAGS.target_reduction, normalization=FLAGS.normalization
    )
    model = resrep_keras.wrap(dense, method)
    record = fit(model, data, FLAGS.epochs, seed)
    slim = resrep_keras.finalize(model, strict=True)
    return slim, {
        **record,
        **measure(dense, slim, data),
        "difference": slim.certificate.max_relative,
    }


def train_l1(data, seed):
    dense = load("dense", seed)
    slim = resrep_keras.MagnitudePruning(target_reduction=FLAGS.target_reduction).prune(dense)
    record = fit(slim, data, FLAGS.epochs, seed)
    return slim, {**record, **measure(dense, slim, data)}


def measure(dense, slim, data):
    """Accuracy of the slim model, MACs, latency ratio and widths."""
    table = resrep_keras.report(dense, slim, threads=1, repeats=500)
    ratios = {row.name: round(row.ratio, 4) for row in table.rows}
    return {"accuracy": trials.accuracy(slim, data), "ratios": ratios, "widths": table.widths}


PHASES = {"dense": train_dense, "resrep": train_resrep, "l1": train_l1, "longer": train_longer}


def summary(records):
    """Means and spreads."""
    accuracy = {name: [r["accuracy"] for r in rs] for name, rs in records.items()}
    return {
        **trials.origin(),
        "dense_macs": resrep_keras.count_macs(trials.nets.small_resnet((28, 28, 1), 10)),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "accuracy_mean": {k: round(float(np.mean(v)), 3) for k, v in accuracy.items()},
        "accuracy_std": {k: round(trials.spread(v), 3) for k, v in accuracy.items()},
        "accuracy": accuracy,
        "macs_left": {k: [r["ratios"]["MACs"] for r in records[k]] for k in ("resrep", "l1")},
        "tflite_latency_ratio": {
            k: [r["ratios"]["TFLite latency"] for r in records[k]] for k in ("resrep", "l1")
        },
        "keras_latency_ratio": {
            k: [r["ratios"]["Keras latency"] for r in records[k]] for k in ("resrep", "l1")
        },
        "largest_relative_difference": max(r["difference"] for r in records["resrep"]),
        "seconds": {k: [r["seconds"] for r in rs] for k, rs in records.items()},
        "widths": {k: [r["widths"] for r in records[k]] for k in ("resrep", "l1")},
    }


def as_markdown(result):
    first, second = result["epochs"]
    titles = {
        "dense": f"dense, {first} epochs",
        "longer": f"dense, {first} + {second} epochs",
        "resrep": f"ResRep, {first} + {second} epochs",
        "l1": f"one-shot L1, {first} + {second} epochs",
    }
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {len(result['seeds'])} seeds, "
        "mean and sample standard deviation.",
        "",
    ]
    header = ("model", "test accuracy (%)", "MACs left (%)", "TFLite latency, slim / dense")
    table = []
    for name, title in titles.items():
        accuracy = f"{result['accuracy_mean'][name]:.2f} ± {result['accuracy_std'][name]:.2f}"
        if name in result["macs_left"]:
            left = f"{100 * np.mean(result['macs_left'][name]):.1f}"
            latency = f"{np.mean(result['tflite_latency_ratio'][name]):.2f}"
        else:
            left, latency = "100", "1"
        table.append((title, accuracy, left, latency))
    lines += markdown_table(header, table)
    lines += [
        "",
        f"The dense net has {result['dense_macs']:,} MACs. Wrapped and slim model differ by at "
        f"most {result['largest_relative_difference']:.1e} of the largest output. Latency is a "
        "ratio of medians measured in turn, batch 1, one thread.",
    ]
    return "\n".join(lines) + "\n"


def plot(records, result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    first = np.mean([r["curve"] for r in records["dense"]], axis=0)
    axes.plot(range(1, len(first) + 1), first, color="#777777", label="dense")
    left = 100 * np.mean(result["macs_left"]["resrep"])
    styles = {
        "longer": ("#222222", "dense, trained on"),
        "resrep": ("#2f6fb5", f"ResRep, {left:.1f} % of the MACs"),
        "l1": ("#c7622b", "one-shot L1, same cost"),
    }
    for name, (color, label) in styles.items():
        curves = np.array([r["curve"] for r in records[name]])
        epochs = np.arange(1, curves.shape[1] + 1) + len(first)
        axes.plot(epochs, curves.mean(axis=0), color=color, label=label)
        axes.fill_between(
            epochs, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.15, lw=0
        )
    axes.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(80, 94))
    axes.set_title(f"Fashion-MNIST, {len(result['seeds'])} seeds, mean and range", fontsize=10)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(_):
    data = trials.begin()
    phases = [name for name in PHASES if name in FLAGS.phases or not FLAGS.phases]
    records = trials.records(phases, lambda name, seed: record(name, data, seed))
    if len(phases) == len(PHASES):
        result = summary(records)
        trials.publish(result, as_markdown)
        if FLAGS.write:
            write_figure(RESULTS / "fashion_mnist.png", plot(records, result))


if __name__ == "__main__":
    app.run(main)
