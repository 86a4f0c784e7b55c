"""ResRep and one-shot L1 against the dense model on Fashion-MNIST (60,000 images).

    python benchmarks/fashion_mnist.py --data_dir=/usr/share/datasets/fashion-mnist

Each seed trains a dense residual net, then goes on from it in three ways for the same number of
epochs and with the same recipe: dense, pruned by ResRep with default settings, pruned by one-shot
L1. Phases are kept in --work_dir, so that a run that was stopped goes on. Results go to
benchmarks/results/fashion_mnist.json, .md and .png.
"""

import json
import os
import pathlib
import platform
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples"))

import datasets
import keras
import nets
import numpy as np
from absl import app, flags

import resrep_keras

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "/usr/share/datasets/fashion-mnist", "Folder of the idx files.")
flags.DEFINE_string("work_dir", "/tmp/resrep_fashion_mnist", "Where finished phases are kept.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds to train.")
flags.DEFINE_integer("dense_epochs", 10, "Epochs of the first, dense phase.")
flags.DEFINE_integer("epochs", 15, "Epochs of each second phase.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_enum("normalization", "none", ["none", "layer"], "What ResRep compares; see there.")
flags.DEFINE_integer("threads", 0, "Threads of TensorFlow; 0 lets it choose.")
flags.DEFINE_list("phases", [], "Train only these phases; all where empty.")
flags.DEFINE_bool("summarise", True, "Whether to write the result files.")

BATCH = 128
RESULTS = pathlib.Path(__file__).parent / "results"


def compile_model(model, steps):
    """SGD with momentum 0.9, weight decay 5e-3 and a cosine rate from 0.05 to 0."""
    rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
    )


class Phase:
    """A trained model and its record, kept as files once finished."""

    def __init__(self, name, seed):
        self.model_path = pathlib.Path(FLAGS.work_dir) / f"{name}_{seed}.keras"
        self.record_path = self.model_path.with_suffix(".json")

    @property
    def done(self):
        return self.model_path.exists() and self.record_path.exists()

    def load(self):
        return keras.models.load_model(self.model_path, compile=False)

    def record(self):
        return json.loads(self.record_path.read_text())

    def save(self, model, record):
        model.save(self.model_path)
        beside = self.record_path.with_suffix(".tmp")
        beside.write_text(json.dumps(record))
        os.replace(beside, self.record_path)


def fit(model, data, epochs, seed):
    (x, y), test = data
    keras.utils.set_random_seed(1000 + seed)
    compile_model(model, epochs * -(-len(x) // BATCH))
    begin = time.time()
    history = model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=2, validation_data=test)
    curve = [round(100 * value, 2) for value in history.history["val_accuracy"]]
    return {"accuracy": curve[-1], "curve": curve, "seconds": round(time.time() - begin, 1)}


def train_dense(data, seed):
    keras.utils.set_random_seed(seed)
    model = nets.small_resnet((28, 28, 1), 10)
    return model, fit(model, data, FLAGS.dense_epochs, seed)


def train_longer(data, seed):
    model = Phase("dense", seed).load()
    return model, fit(model, data, FLAGS.epochs, seed)


def train_resrep(data, seed):
    dense = Phase("dense", seed).load()
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
    dense = Phase("dense", seed).load()
    slim = resrep_keras.MagnitudePruning(target_reduction=FLAGS.target_reduction).prune(dense)
    record = fit(slim, data, FLAGS.epochs, seed)
    return slim, {**record, **measure(dense, slim, data)}


def measure(dense, slim, data):
    """Accuracy of the slim model, MACs, latency ratio and widths."""
    x, y = data[1]
    accuracy = 100 * float((slim.predict(x, batch_size=1000, verbose=0).argmax(-1) == y).mean())
    table = resrep_keras.report(dense, slim, threads=1, repeats=500)
    ratios = {row.name: round(row.ratio, 4) for row in table.rows}
    return {"accuracy": round(accuracy, 2), "ratios": ratios, "widths": table.widths}


PHASES = {"dense": train_dense, "resrep": train_resrep, "l1": train_l1, "longer": train_longer}


def summarise(seeds):
    """Write means, spreads and the figure."""
    records = {name: [Phase(name, s).record() for s in seeds] for name in PHASES}
    accuracy = {name: [r["accuracy"] for r in rs] for name, rs in records.items()}
    result = {
        "command": "python benchmarks/fashion_mnist.py --data_dir=<folder of idx files>",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Keras {keras.__version__}",
        "seeds": [int(seed) for seed in seeds],
        "dense_macs": resrep_keras.count_macs(nets.small_resnet((28, 28, 1), 10)),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "accuracy_mean": {k: round(float(np.mean(v)), 3) for k, v in accuracy.items()},
        "accuracy_std": {k: round(float(np.std(v, ddof=1)), 3) for k, v in accuracy.items()},
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
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fashion_mnist.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(records, result).savefig(RESULTS / "fashion_mnist.png", dpi=120)
    (RESULTS / "fashion_mnist.md").write_text(as_markdown(result))
    print(as_markdown(result))


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
        "| model | test accuracy (%) | MACs left (%) | TFLite latency, slim / dense |",
        "|---|---|---|---|",
    ]
    for name, title in titles.items():
        accuracy = f"{result['accuracy_mean'][name]:.2f} ± {result['accuracy_std'][name]:.2f}"
        if name in result["macs_left"]:
            left = f"{100 * np.mean(result['macs_left'][name]):.1f}"
            latency = f"{np.mean(result['tflite_latency_ratio'][name]):.2f}"
        else:
            left, latency = "100", "1"
        lines.append(f"| {title} | {accuracy} | {left} | {latency} |")
    lines += [
        "",
        f"The dense net has {result['dense_macs']:,} MACs. Wrapped and slim model differ by at most "
        f"{result['largest_relative_difference']:.1e} of the largest output. Latency is a ratio of "
        "medians measured in turn, batch 1, one thread.",
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
    if FLAGS.threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    pathlib.Path(FLAGS.work_dir).mkdir(parents=True, exist_ok=True)
    data = datasets.load("fashion_mnist", FLAGS.data_dir)
    for seed in FLAGS.seeds:
        for name, train in PHASES.items():
            phase = Phase(name, seed)
            if FLAGS.phases and name not in FLAGS.phases:
                continue
            if not phase.done:
                print(f"seed {seed}: {name}", flush=True)
                phase.save(*train(data, int(seed)))
            print(f"seed {seed}: {name}: accuracy {phase.record()['accuracy']}", flush=True)
    if FLAGS.summarise:
        summarise(FLAGS.seeds)


if __name__ == "__main__":
    app.run(main)
