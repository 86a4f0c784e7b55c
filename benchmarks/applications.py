"""Exactness and speed of wrap and finalize on four applications of Keras, and of the selection.

    python benchmarks/applications.py

Weights and batch statistics are random; random masks remove about 30 % of the channels that the
default method may prune. Results go to benchmarks/results/applications.json and .md.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags
from common import machine, mask_at_random, write_result

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.costs.latency import median_seconds
from resrep_keras.methods.channels.channel_state import ChannelState

FLAGS = flags.FLAGS
flags.DEFINE_list("models", ["ResNet50", "MobileNetV2", "VGG16", "EfficientNetB0"], "Which.")
flags.DEFINE_integer("seed", 0, "Seed of weights and masks.")
flags.DEFINE_integer("step_size", 96, "Image size of the step times.")
flags.DEFINE_integer("step_batch", 16, "Batch size of the step times.")
flags.DEFINE_integer("step_repeats", 7, "Timed steps of each model.")
flags.DEFINE_integer("selection_layers", 60, "Layers of 512 channels that one selection is among.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")


def randomise(model):
    """Random batch statistics, so that no batch norm is an identity by chance."""
    generator = np.random.default_rng(FLAGS.seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                positive = weight.path.endswith(("gamma", "variance"))
                draw = generator.uniform(0.5, 1.5, weight.shape)
                weight.assign(draw if positive else draw - 1)


def exactness(name):
    keras.utils.set_random_seed(FLAGS.seed)
    dense = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    randomise(dense)
    begin = time.perf_counter()
    wrapped = resrep_keras.wrap(dense)
    wrap_seconds = time.perf_counter() - begin
    extra = resrep_keras.count_macs(wrapped) / resrep_keras.count_macs(dense)
    removed, channels = mask_at_random(wrapped, FLAGS.seed)
    wrapped.method = None  # random masks have no target
    begin = time.perf_counter()
    slim = resrep_keras.finalize(wrapped, strict=True)
    return {
        "model": name,
        "macs": slim.certificate.macs_dense,
        "wrapped_over_dense_macs": round(extra, 4),
        "channels_removed": f"{removed} of {channels}",
        "macs_left": round(slim.certificate.macs_left, 4),
        "largest_relative_difference": slim.certificate.max_relative,
        "wrap_seconds": round(wrap_seconds, 2),
        "finalize_seconds": round(time.perf_counter() - begin, 2),
    }


def step_time(name):
    """Median training step, dense and wrapped in turn."""
    keras.utils.set_random_seed(FLAGS.seed)
    size, batch = FLAGS.step_size, FLAGS.step_batch
    build = getattr(keras.applications, name)
    dense = build(weights=None, input_shape=(size, size, 3), classes=10)
    wrapped = resrep_keras.wrap(dense)
    generator = np.random.default_rng(FLAGS.seed)
    x = generator.normal(size=(batch, size, size, 3)).astype("float32")
    y = generator.integers(0, 10, batch)
    for model in (dense, wrapped):
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
    calls = [lambda m=m: m.train_on_batch(x, y) for m in (dense, wrapped)]
    seconds = median_seconds(calls, repeats=FLAGS.step_repeats, warmup=2)
    return {
        "model": name,
        "image_size": size,
        "batch": batch,
        "dense_seconds": round(seconds[0], 4),
        "wrapped_seconds": round(seconds[1], 4),
        "wrapped_over_dense": round(seconds[1] / seconds[0], 3),
    }


def selection():
    """Seconds of one whole selection by the defaults among many channels, median."""
    x = inputs = keras.Input((8, 8, 3))
    for _ in range(FLAGS.selection_layers):
        x = keras.layers.Conv2D(512, 1)(x)
    outputs = keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))
    model = resrep_keras.wrap(keras.Model(inputs, outputs))
    model.compile("sgd", "mse")
    generator = np.random.default_rng(FLAGS.seed)
    model.train_on_batch(generator.normal(size=(2, 8, 8, 3)), generator.normal(size=(2, 10)))
    state, plan = ChannelState(model), model.method.plan(0, 100, 100)

    def select():
        model.method.update(state, model.optimizer, plan, plan.steps[-1])

    return {
        "channels": state.graph.num_channels,
        "seconds": round(median_seconds([select], 9)[0], 4),
    }


def as_markdown(result):
    lines = [f"Made by `{result['command']}` on {result['machine']}; one seed, random weights.", ""]
    header = (
        "model",
        "MACs",
        "wrapped / dense MACs",
        "channels removed",
        "MACs left",
        "largest relative difference",
        "wrap (s)",
        "finalize (s)",
    )
    table = []
    for row in result["exactness"]:
        table.append(
            (
                row["model"],
                f"{row['macs']:,}",
                row["wrapped_over_dense_macs"],
                row["channels_removed"],
                row["macs_left"],
                f"{row['largest_relative_difference']:.1e}",
                row["wrap_seconds"],
                row["finalize_seconds"],
            )
        )
    lines += markdown_table(header, table)
    lines += ["", "Training step, measured in turn (median):", ""]
    header = ("model", "image", "batch", "dense (s)", "wrapped (s)", "wrapped / dense")
    table = []
    for row in result["step_time"]:
        table.append(
            (
                row["model"],
                f"{row['image_size']} px",
                row["batch"],
                row["dense_seconds"],
                row["wrapped_seconds"],
                row["wrapped_over_dense"],
            )
        )
    lines += markdown_table(header, table)
    chosen = result["selection"]
    lines += ["", f"A selection among {chosen['channels']:,} channels takes {chosen['seconds']} s."]
    return "\n".join(lines) + "\n"


def main(_):
    result = {
        "command": "python benchmarks/applications.py",
        "machine": machine(),
        "exactness": [exactness(name) for name in FLAGS.models],
        "step_time": [step_time(name) for name in FLAGS.models[:1]],
        "selection": selection(),
    }
    text = as_markdown(result)
    print(text)
    if FLAGS.write:
        write_result(result, text)


if __name__ == "__main__":
    app.run(main)
