"""GraNet against gradual pruning and fixed sparsity, at 98 % zeros; and what zeros are worth in a file.

    python benchmarks/granet.py --data_dir=<folder of idx files>

The net and the recipe are a multilayer perceptron on Fashion-MNIST, SGD with Nesterov momentum, the
rate divided by ten at 1/2 and 3/4 of 20 epochs. Finished runs are kept in the work folder. Fails
where a bar is missed. Writes `benchmarks/results/granet.json` and `.md`.
"""

import json
import os
import pathlib
import sys
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import datasets
import keras
import numpy as np
from absl import app, flags, logging
from common import machine
from keras import layers

import resrep_keras
from resrep_keras.costs.latency import tflite_latency, to_tflite
from resrep_keras.methods.granet import GraNet
from resrep_keras.sparsity import density_of

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "/usr/share/datasets/fashion-mnist", "Folder of the idx files.")
flags.DEFINE_string("work_dir", "/tmp/resrep_granet", "Where finished runs are kept.")
flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Seeds to train.")
flags.DEFINE_float("sparsity", 0.98, "Share of the weights that is zero in the end.")
flags.DEFINE_integer("epochs", 20, "Epochs of each run.")
flags.DEFINE_integer("interval", 100, "Steps between updates of the masks.")
flags.DEFINE_integer("limit", None, "Use only so many training images.")
flags.DEFINE_integer("threads", 1, "Threads of TensorFlow and of LiteRT.")
flags.DEFINE_integer("repeats", 300, "Timed calls of each file.")
flags.DEFINE_bool("write", True, "Whether to write the result files and to check the bars.")

BATCH, RATE, DECAY = 128, 0.1, 5e-4
RESULTS = pathlib.Path(__file__).parent / "results"


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
    # Weight decay as PyTorch's SGD has it, part of the gradient and of the momentum: an L2 penalty of
    # half the strength. Keras's own weight_decay would be taken off the weights beside the gradient.
    decay = {f"{part}_regularizer": keras.regularizers.L2(DECAY / 2) for part in ("kernel", "bias")}
    x = inputs = keras.Input((784,))
    for units in (300, 100):
        x = layers.Dense(units, activation="relu", **decay)(x)
    return keras.Model(inputs, layers.Dense(10, **decay)(x), name="mlp")


def train(data, make_method, seed):
    """A trained model, plain again, and what is told of the run."""
    (x, y), (test_x, test_y) = data
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
    begin = time.perf_counter()
    model.fit(x, y, batch_size=BATCH, epochs=FLAGS.epochs, verbose=0)
    seconds = time.perf_counter() - begin
    accuracy = 100 * float((model.predict(test_x, 1000, verbose=0).argmax(-1) == test_y).mean())
    told = {"accuracy": round(accuracy, 2), "seconds": round(seconds, 1)}
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


def run(data, name, seed):
    stem = "".join(c if c.isalnum() else "_" for c in name)
    path = pathlib.Path(FLAGS.work_dir) / f"{stem}_{seed}.json"
    if not path.exists():
        model, told = train(data, methods()[name], seed)
        model.save(path.with_suffix(".keras"))
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps(told))
        os.replace(beside, path)
    return json.loads(path.read_text()), path.with_suffix(".keras")


# --- what zeros are worth in a file -------------------------------------------------------------------


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
    generator = np.random.default_rng(0)
    for kernel in model.weights:
        if kernel.path.endswith("kernel") and tuple(kernel.shape[:2]) == (1, 1):
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
    seconds = tflite_latency(list(files.values()), inputs, FLAGS.threads, FLAGS.repeats)
    row = {"model": name, "density": round(density_of(sparse)["total"]["density"], 4)}
    for (kind, content), each in zip(files.items(), seconds):
        row[kind] = {
            "bytes": len(content),
            "zipped": len(zlib.compress(content, 9)),
            "microseconds": round(1e6 * each, 1),
        }
    print(row, flush=True)
    return row


def file_rows(paths):
    generator = np.random.default_rng(0)
    image = [generator.normal(size=(1, 784)).astype("float32")]
    dense = keras.models.load_model(paths["dense"], compile=False)
    for name in ("GMP", "GraNet-ST"):
        yield file_row(
            f"mlp, {name}", dense, keras.models.load_model(paths[name], compile=False), image
        )
    image = [generator.normal(size=(1, 65, 65, 3)).astype("float32")]
    for sparsity in (0.8, 0.9, 0.98):
        yield file_row(
            f"separable convolutions, 1x1 at {sparsity}",
            convolutional(0.0),
            convolutional(sparsity),
            image,
        )


# --- the page -----------------------------------------------------------------------------------------


def bars(means):
    return {
        "GraNet-ST >= RigL + 0.5": means["GraNet-ST"] >= means["RigL (ERK)"] + 0.5,
        "RigL >= static + 1": means["RigL (ERK)"] >= means["static (ERK)"] + 1,
        "GraNet within 0.4 of GMP": abs(means["GraNet"] - means["GMP"]) <= 0.4,
    }


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {len(result['seeds'])} seeds, mean and "
        f"sample standard deviation; MLP 784-300-100-10 on standardised Fashion-MNIST, {result['epochs']} epochs, "
        f"sparsity {result['sparsity']} but for the dense one.",
        "",
        "| method | test accuracy (%) | by seed | seconds of a run | units left |",
        "|---|---|---|---|---|",
    ]
    for name, runs in result["runs"].items():
        values = [run["accuracy"] for run in runs]
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        units = {"-".join(map(str, run.get("units", [300, 100, 10]))) for run in runs}
        lines.append(
            f"| {name} | {np.mean(values):.2f} ± {spread:.2f} | "
            f"{', '.join(f'{v:.2f}' for v in values)} | "
            f"{np.median([run['seconds'] for run in runs]):.0f} | {', '.join(sorted(units))} |"
        )
    lines += [
        "",
        *(f"- {'met' if met else 'MISSED'}: {bar}" for bar, met in result["bars"].items()),
    ]
    lines += [
        "",
        f"float32 TFLite files, `{result['threads']}` thread(s), medians of {result['repeats']} calls in "
        "turn. *Zeros* is the sparse model as a plain file, *sparse* the one of "
        "`export(model, path, sparse=True)`.",
        "",
        "| model | density | bytes: dense / zeros / sparse | zipped | microseconds |",
        "|---|---|---|---|---|",
    ]
    for row in result["files"]:
        cells = [
            " / ".join(f"{row[kind][key]:,}" for kind in ("dense", "zeros", "sparse"))
            for key in ("bytes", "zipped", "microseconds")
        ]
        lines.append(f"| {row['model']} | {row['density']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(_):
    logging.set_verbosity(logging.WARNING)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    pathlib.Path(FLAGS.work_dir).mkdir(parents=True, exist_ok=True)
    (x, y), (test_x, test_y) = datasets.load("fashion_mnist", FLAGS.data_dir)
    x, y = x[: FLAGS.limit], y[: FLAGS.limit]
    # Mean 0 and deviation 1: sparse nets need it more than dense ones, see docs/sparsity.md.
    mean, deviation = x.mean(), x.std()
    x, test_x = (((part - mean) / deviation).reshape(-1, 784) for part in (x, test_x))
    data = (x, y), (test_x, test_y)
    runs, paths = {name: [] for name in methods()}, {}
    for seed in map(int, FLAGS.seeds):
        for name in methods():
            told, path = run(data, name, seed)
            runs[name].append(told)
            paths.setdefault(name, path)
            print(f"seed {seed}: {name}: {told}", flush=True)
    means = {name: float(np.mean([run["accuracy"] for run in runs[name]])) for name in runs}
    result = {
        "command": "python benchmarks/granet.py",
        "machine": machine(),
        "seeds": FLAGS.seeds,
        "epochs": FLAGS.epochs,
        "sparsity": FLAGS.sparsity,
        "threads": FLAGS.threads,
        "repeats": FLAGS.repeats,
        "runs": runs,
        "bars": bars(means),
        "files": list(file_rows(paths)),
    }
    print(as_markdown(result))
    if FLAGS.write:
        (RESULTS / "granet.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "granet.md").write_text(as_markdown(result))
        if not all(result["bars"].values()):
            raise SystemExit("A bar is missed; see above.")


if __name__ == "__main__":
    app.run(main)
