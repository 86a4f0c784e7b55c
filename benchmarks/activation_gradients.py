"""Activation-gradient pruning on Fashion-MNIST: accuracy, zeros, multiply-adds, and time.

    python benchmarks/activation_gradients.py --data_dir=<folder of idx files>

Each seed trains one net of three convolutions with batch normalisation in several ways: dense, at
two rates, with thresholds of a log-normal fit, and with deterministic rounding. Finished runs are
kept in the work folder. Then the gradients of the weights are compared with those of the dense
model, and steps are timed. Writes `benchmarks/results/activation_gradients.json` and `.md`, and
fails where the accuracy at a rate of 0.9 is more than 0.5 points from the dense one, or fewer than
half of a gradient are zeros.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf
import trials
from absl import app, flags
from keras import layers
from trials import BATCH, mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.methods.gradients.method import ActivationGradientPruning
from resrep_keras.methods.gradients.report import backward_macs, gradient_sparsity

FLAGS = flags.FLAGS
FLAGS.set_default("images", 20_000)
FLAGS.set_default("epochs", 6)
FLAGS.set_default("threads", 1)
flags.DEFINE_integer("draws", 500, "Backward passes whose mean is compared.")
flags.DEFINE_integer("rounds", 30, "Rounds of ten timed steps of each model.")

ACCURACY_BAR, ZEROS_BAR = 0.5, 0.5
VARIANTS = {
    "dense": None,
    "rate 0.9": {"rate": 0.9},
    "rate 0.99": {"rate": 0.99},
    "rate 0.9, lognormal": {"rate": 0.9, "threshold": "lognormal"},
    "rate 0.9, deterministic": {"rate": 0.9, "rounding": "deterministic"},
}


def make(variant, seed, **settings):
    """The net of a seed, wrapped as the variant says."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((28, 28, 1))
    for number, (width, strides) in enumerate([(16, 1), (32, 2), (32, 2)], 1):
        convolution = layers.Conv2D(
            width, 3, strides, padding="same", use_bias=False, name=f"conv{number}"
        )
        x = layers.ReLU()(layers.BatchNormalization()(convolution(x)))
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    chosen = VARIANTS[variant]
    if chosen is None:
        return model
    method = ActivationGradientPruning(seed=100 * seed, **{**chosen, **settings})
    return resrep_keras.wrap(model, method)


def compile_model(model, steps):
    """SGD with momentum 0.9 and a cosine rate from 0.05 to 0."""
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def name_of(variant, seed):
    return f"{variant.replace(' ', '_')}_{seed}"


def run(variant, data, seed):
    """Train a net; its record, and its weights in a file beside."""

    def train(path):
        x, y = data[0]
        model = make(variant, seed)
        compile_model(model, FLAGS.epochs * -(-len(x) // BATCH))
        keras.utils.set_random_seed(1000 + seed)
        model.fit(x, y, batch_size=BATCH, epochs=FLAGS.epochs, verbose=0)
        told = {"accuracy": trials.accuracy(model, data)}
        if VARIANTS[variant] is not None:
            told["zeros"] = {k: round(v, 4) for k, v in gradient_sparsity(model).items()}
            told["backward_macs"] = backward_macs(model)
            model = resrep_keras.finalize(model, strict=True)
        model.save_weights(path.with_suffix(".weights.h5"))
        return told

    return trials.record(name_of(variant, seed), train)


# --- the mean of the gradients -------------------------------------------------------------------


def kernel_gradients(model, x, y, draws):
    """The mean gradient of each convolution's kernel over several backward passes, float64."""
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")][:3]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def gradients():
        with tf.GradientTape() as recording:
            value = loss(y, model(x, training=True))
        return recording.gradient(value, [kernel.value for kernel in kernels])

    sums = [np.zeros(kernel.shape) for kernel in kernels]
    for _ in range(draws):
        for total, gradient in zip(sums, gradients()):
            total += gradient.numpy()
    return [total.ravel() / draws for total in sums]


def compare_gradients(data, seed):
    """Cosine and length of mean pruned gradients against the dense ones, after training."""
    (x, y), _ = data
    batch = tf.constant(x[:BATCH]), tf.constant(y[:BATCH])
    saved = trials.work_dir() / f"{name_of('dense', seed)}.weights.h5"
    found, dense = {}, None
    for variant, settings in VARIANTS.items():
        model = make("dense", seed)
        model.load_weights(saved)
        if settings is not None:
            method = ActivationGradientPruning(seed=1, **{**settings, "fifo_depth": 0})
            model = resrep_keras.wrap(model, method)
        stochastic = settings is not None and "rounding" not in settings
        mean = kernel_gradients(model, *batch, FLAGS.draws if stochastic else 1)
        if dense is None:
            dense = mean
            continue
        lengths = [(np.linalg.norm(m), np.linalg.norm(d)) for m, d in zip(mean, dense)]
        found[variant] = {
            "cosine": [
                round(float(m @ d / (a * b)), 5) for m, d, (a, b) in zip(mean, dense, lengths)
            ],
            "length": [round(float(a / b), 4) for a, b in lengths],
        }
    return found


# --- time ----------------------------------------------------------------------------------------


def time_steps(data):
    """Milliseconds of a training step of each variant, taken in turn: median over the rounds."""
    (x, y), _ = data
    x, y = tf.constant(x[:BATCH]), tf.constant(y[:BATCH])
    models = {}
    for variant in VARIANTS:
        models[variant] = make(variant, 0)
        compile_model(models[variant], 10_000)
        for _ in range(10):
            models[variant].train_on_batch(x, y)
    times = {variant: [] for variant in VARIANTS}
    for _ in range(FLAGS.rounds):
        for variant, model in models.items():
            start = time.perf_counter()
            for _ in range(10):
                model.train_on_batch(x, y)
            times[variant].append((time.perf_counter() - start) * 100)
    ratios = {v: np.median(np.array(t) / np.array(times["dense"])) for v, t in times.items()}
    return {
        variant: {
            "milliseconds": round(float(np.median(t)), 2),
            "ratio": round(float(ratios[variant]), 3),
        }
        for variant, t in times.items()
    }


# --- result --------------------------------------------------------------------------------------


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}, {result['threads']} thread; "
        f"{len(result['seeds'])} seeds, mean and sample standard deviation; {result['images']:,} "
        f"images, {result['epochs']} epochs, batches of {BATCH}.",
        "",
    ]
    header = (
        "",
        "test accuracy (%)",
        "zeros of the gradient at conv1, conv2, conv3",
        "multiply-adds of the backward convolutions, counted",
        "time of a step, measured",
    )
    table = []
    for variant, runs in result["runs"].items():
        values = [run["accuracy"] for run in runs]
        zeros, macs = "none", "1"
        if "zeros" in runs[0]:
            means = [np.mean([run["zeros"][name] for run in runs]) for name in runs[0]["zeros"]]
            zeros = ", ".join(f"{mean:.2f}" for mean in means)
            shares = [pruned / dense for dense, pruned in (run["backward_macs"] for run in runs)]
            macs = f"{np.mean(shares):.3f}"
        table.append(
            (
                variant,
                mean_and_spread(values),
                zeros,
                macs,
                f"{result['steps'][variant]['ratio']:.2f}",
            )
        )
    lines += markdown_table(header, table)
    lines += [
        "",
        "Multiply-adds and times are shares of the dense ones: the kernels are dense and multiply "
        "with zeros, too, so that pruning costs time here.",
        "",
        f"Gradients of the kernels on one batch, mean of {result['draws']} backward passes (one, "
        "where nothing is drawn), against the dense ones:",
        "",
    ]
    header = ("", "cosine at conv1, conv2, conv3", "length, as a share")
    table = []
    for variant, found in result["gradients"].items():
        cosines = ", ".join(f"{value:.4f}" for value in found["cosine"])
        lengths = ", ".join(f"{value:.3f}" for value in found["length"])
        table.append((variant, cosines, lengths))
    lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def problems(runs):
    """What does not hold, in words."""
    dense, pruned = (
        np.mean([run["accuracy"] for run in runs[name]]) for name in ("dense", "rate 0.9")
    )
    if not abs(pruned - dense) <= ACCURACY_BAR:
        yield f"accuracy at rate 0.9 is {pruned:.2f}, the dense one {dense:.2f}"
    for run in runs["rate 0.9"]:
        for name, zeros in run["zeros"].items():
            if not zeros >= ZEROS_BAR:
                yield f"the gradient at {name} has {zeros:.2f} zeros at rate 0.9"


def main(_):
    data = trials.begin()
    runs = trials.records(VARIANTS, lambda variant, seed: run(variant, data, seed))
    result = {
        **trials.origin(),
        "threads": FLAGS.threads,
        "epochs": FLAGS.epochs,
        "draws": FLAGS.draws,
        "runs": runs,
        "gradients": compare_gradients(data, int(FLAGS.seeds[0])),
        "steps": time_steps(data),
    }
    trials.publish(result, as_markdown)
    found = list(problems(runs))
    if found:
        sys.exit("Not met: " + "; ".join(found) + ".")


if __name__ == "__main__":
    app.run(main)
