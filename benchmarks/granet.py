"""GraNet against gradual pruning and fixed sparsity, at 98 % zeros; what zeros save in a file.

    python benchmarks/granet.py --data_dir=<folder of idx files>

The net and the recipe are a multilayer perceptron on Fashion-MNIST, SGD with Nesterov momentum, the
rate divided by ten at 1/2 and 3/4 of 20 epochs. Finished runs are kept in the work folder. Fails
where a bar is missed. Writes `benchmarks/results/granet.json` and `.md`.
"""

import zlib

import keras
import numpy as np
import trials
from absl import app, flags, logging
from keras import layers
from trials import BATCH, mean_and_spread

import resrep_keras
from resrep_keras.common.files import write
from resrep_keras.common.tables import markdown_table
from resrep_keras.costs.latency import tflite_latency
from resrep_keras.methods.sparse.densities import density_of
from resrep_keras.methods.sparse.granet import GraNet
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.signature import signature_of

FLAGS = flags.FLAGS
FLAGS.set_default("seeds", ["0", "1", "2", "3", "4"])
FLAGS.set_default("images", 60_000)
FLAGS.set_default("epochs", 20)
FLAGS.set_default("threads", 1)
flags.DEFINE_float("sparsity", 0.98, "Share of the weights that is zero in the end.")
flags.DEFINE_integer("interval", 100, "Steps between updates of the masks.")
flags.DEFINE_bool(
    "standardise", True, "Whether pixels have mean 0, deviation 1, or go from 0 to 1."
)
flags.DEFINE_bool("files", True, "Whether to measure files, too.")
flags.DEFINE_integer("repeats", 300, "Timed calls of each file.")

RATE, DECAY = 0.1, 5e-4


def methods():
    common = {"interval": FLAGS.interval, "regrow_rate": 0.5}
    sparsity = FLAGS.sparsity
    return {
        "dense": lambda seed: None,
        "GMP": lambda seed: GraNet.gmp(sparsity, interval=FLAGS.interval),
        "GraNet": lambda seed: GraNet(final_sparsity=sparsity, **common),
        "GraNet-ST": lambda seed: GraNet.sparse_to_sparse(sparsity, seed=seed, **common),
        "RigL (ERK)": lambda seed: GraNet.rigl(sparsity, seed=seed, **common),
        "SET (ERK)": lambda seed: GraNet.set(sparsity, seed=seed, **common),
        "static (ERK)": lambda seed: GraNet.static(sparsity, seed=seed),
    }


def mlp():
    # Weight decay as PyTorch's SGD has it, part of the gradient and of the momentum: an L2 penalty
    # of half the strength. Keras's own weight_decay would be taken off the weights beside the
    # gradient.
    decay = {f"{part}_regularizer": keras.regularizers.L2(DECAY / 2) for part in ("kernel", "bias")}
    x = inputs = keras.Input((784,))
    for units in (300, 100):
        x = layers.Dense(units, activation="relu", **decay)(x)
    return keras.Model(inputs, layers.Dense(10, **decay)(x), name="mlp")


def train(data, make_method, seed):
    """A trained model, plain again, and what is told of the run."""
    x, y = data[0]
    keras.utils.set_random_seed(seed)
    steps = FLAGS.epochs * -(-len(x) // BATCH)
    rate = keras.optimizers.schedules.PiecewiseConstantDecay(
        [steps // 2, 3 * steps // 4], [RATE, RATE / 10, RATE / 100]
    )
    method = make_method(seed)
    model = mlp() if method is None else resrep_keras.wrap(mlp(), method)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=min(50, steps // FLAGS.epochs),
        jit_compile=True,
    )
    model.fit(x, y, batch_size=BATCH, epochs=FLAGS.epochs, verbose=0)
    told = {"accuracy": trials.accuracy(model, data)}
    if method is not None:
        masks = model.optimizer.masks()
        total = sum(mask.size for mask in masks.values())
        kept = sum(int(mask.sum()) for mask in masks.values())
        if kept != round(total * (1 - method.final_sparsity)):
            raise SystemExit(f"{kept} of {total} weights are kept, not a share of {method}.")
        told["densities"] = {path: round(float(m.mean()), 4) for path, m in masks.items()}
        model = resrep_keras.finalize(model, strict=True)
        told["difference"] = model.certificate.max_relative
        told["units"] = [w.shape[-1] for w in model.weights if w.path.endswith("kernel")]
    return model, told


def name_of(method, seed):
    stem = "".join(c if c.isalnum() else "_" for c in method)
    return f"{stem}_{seed}" if FLAGS.standardise else f"{stem}_{seed}_raw"


def run(method, data, seed):
    """The record of a run, and its model in a file beside."""

    def make(path):
        model, told = train(data, methods()[method], seed)
        write(path.with_suffix(".keras"), model.save)
        return told

    return trials.record(name_of(method, seed), make)


# --- what zeros are worth in a file ---------------------------------------------------------------


def convolutional(sparsity, size=65):
    """Depthwise and sparse 1x1 convolutions, within what XNNPACK says that its sparse path takes.

    That is a 3x3 convolution of stride 2 on three channels, padded by 1 on each side as an odd size
    is, and a mean over the picture at the end.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(inputs)
    for filters in (128, 128, 256, 256):
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.Conv2D(filters, 1, activation="relu")(x)
    outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs, name="separable")
    return with_zeros(model, sparsity, lambda kernel: tuple(kernel.shape[:2]) == (1, 1))


def with_zeros(model, sparsity, chosen=lambda kernel: True):
    """The model, a share of the weights of each chosen kernel zero at random."""
    generator = np.random.default_rng(0)
    for kernel in model.weights:
        if kernel.path.endswith("kernel") and chosen(kernel):
            values = keras.ops.convert_to_numpy(kernel).copy()
            zero = generator.permutation(values.size) < sparsity * values.size
            kernel.assign(np.where(zero.reshape(values.shape), 0, values))
    return model


def file_row(name, dense, sparse, inputs):
    """Bytes, and microseconds of one call measured in turn."""
    files = {
        "dense": to_tflite(dense),
        "zeros": to_tflite(sparse),
        "sparse": to_tflite(sparse, sparse=True),
    }
    named = [signature_of(dense).by_name(inputs)] * len(files)
    seconds = tflite_latency(list(files.values()), named, FLAGS.threads, FLAGS.repeats)
    row = {"model": name, "density": round(density_of(sparse)["total"]["density"], 4)}
    for (kind, content), each in zip(files.items(), seconds):
        row[kind] = {
            "bytes": len(content),
            "zipped": len(zlib.compress(content, 9)),
            "microseconds": round(1e6 * each, 1),
        }
    print(row, flush=True)
    return row


def file_rows(seed):
    """Files of trained models, and of models with zeros at random, where no unit is all zero."""

    def load(method):
        path = trials.work_dir() / f"{name_of(method, seed)}.keras"
        return keras.models.load_model(path, compile=False)

    generator = np.random.default_rng(0)
    image = [generator.normal(size=(1, 784)).astype("float32")]
    dense = load("dense")
    for method in ("GMP", "GraNet-ST"):
        yield file_row(f"mlp, {method}", dense, load(method), image)
    for sparsity in (0.7, 0.9, 0.98):
        sparse = with_zeros(load("dense"), sparsity)
        yield file_row(f"mlp, at random {sparsity}", dense, sparse, image)
    image = [generator.normal(size=(1, 65, 65, 3)).astype("float32")]
    for sparsity in (0.8, 0.9, 0.98):
        yield file_row(
            f"separable convolutions, 1x1 at {sparsity}",
            convolutional(0.0),
            convolutional(sparsity),
            image,
        )


# --- the page -------------------------------------------------------------------------------------


def bars(means):
    return {
        "GraNet-ST >= RigL + 0.5": means["GraNet-ST"] >= means["RigL (ERK)"] + 0.5,
        "RigL >= static + 1": means["RigL (ERK)"] >= means["static (ERK)"] + 1,
        "GraNet within 0.4 of GMP": abs(means["GraNet"] - means["GMP"]) <= 0.4,
    }


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {len(result['seeds'])} seeds, mean "
        f"and sample standard deviation; MLP 784-300-100-10 on Fashion-MNIST, {result['pixels']}, "
        f"{result['epochs']} epochs, sparsity {result['sparsity']} but for the dense one.",
        "",
    ]
    header = ("method", "test accuracy (%)", "by seed", "units left")
    table = []
    for name, runs in result["runs"].items():
        values = [run["accuracy"] for run in runs]
        units = {"-".join(map(str, run.get("units", [300, 100, 10]))) for run in runs}
        table.append(
            (name, mean_and_spread(values), trials.by_seed(values), ", ".join(sorted(units)))
        )
    lines += markdown_table(header, table)
    lines += [
        "",
        *(f"- {'met' if met else 'MISSED'}: {bar}" for bar, met in result["bars"].items()),
    ]
    return "\n".join(lines + (_file_lines(result) if result["files"] else [])) + "\n"


def _file_lines(result):
    lines = [
        "",
        f"float32 TFLite files, `{result['threads']}` thread(s), medians of {result['repeats']} "
        "calls in turn. *Zeros* is the sparse model as a plain file, *sparse* the one of "
        "`export(model, path, sparse=True)`.",
        "",
    ]
    header = ("model", "density", "bytes: dense / zeros / sparse", "zipped", "microseconds")
    table = []
    for row in result["files"]:
        cells = [
            " / ".join(f"{row[kind][key]:,}" for kind in ("dense", "zeros", "sparse"))
            for key in ("bytes", "zipped", "microseconds")
        ]
        table.append((row["model"], row["density"], *cells))
    lines += markdown_table(header, table)
    return lines


def main(_):
    logging.set_verbosity(logging.WARNING)
    (x, y), (test_x, test_y) = trials.begin()
    # Mean 0 and deviation 1: sparse nets need it more than dense ones, see docs/sparsity.md.
    mean, deviation = (x.mean(), x.std()) if FLAGS.standardise else (0, 1)
    x, test_x = (((part - mean) / deviation).reshape(-1, 784) for part in (x, test_x))
    data = (x, y), (test_x, test_y)
    runs = trials.records(methods(), lambda method, seed: run(method, data, seed))
    means = {name: float(np.mean([run["accuracy"] for run in runs[name]])) for name in runs}
    result = {
        **trials.origin(),
        "pixels": "standardised" if FLAGS.standardise else "pixels from 0 to 1",
        "epochs": FLAGS.epochs,
        "sparsity": FLAGS.sparsity,
        "threads": FLAGS.threads,
        "repeats": FLAGS.repeats,
        "runs": runs,
        "bars": bars(means),
        "files": list(file_rows(int(FLAGS.seeds[0]))) if FLAGS.files else [],
    }
    trials.publish(result, as_markdown)
    if FLAGS.write and not all(result["bars"].values()):
        raise SystemExit("A bar is missed; see above.")


if __name__ == "__main__":
    app.run(main)
