"""CPU seconds and memory of trace, wrap and finalize on large models, against their limits.

    python benchmarks/speed.py

Each model runs in a process of its own, on one thread. Trace seconds are the median of three. A
chain of 500, 1,000 and 2,000 layers shows how the work grows. Those of wrap, prune and finalize are
compared with copying the model with Keras in the same process: medians of repeats that take turns.
Blocks of layers that nobody has registered show what trying them adds to wrap: it is compared with
that of the same layers with rules.
Results go to benchmarks/results/speed.json and .md.
"""

import itertools
import json
import os
import platform
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags
from common import PeakMemory, mask_at_random, write_result
from keras import layers

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.costs.macs import macs
from resrep_keras.graph.flow import flow
from resrep_keras.surgery.narrow import narrow, take, weight_values

FLAGS = flags.FLAGS
flags.DEFINE_string("measure", None, "Measure this model in this process and print JSON.")
flags.DEFINE_string("compare", None, "Compare with copying this model, in this process, as JSON.")
flags.DEFINE_integer("tried", None, "Compare what trying adds to so many blocks, as JSON.")
flags.DEFINE_integer("repeats", 5, "How often each call is compared, after one to warm up.")

# Largest seconds of trace; None where the row only shows how the work grows.
LIMITS = {
    "ResNet152": 5,
    "EfficientNetV2L": 8,
    "NASNetLarge": 10,
    "chain of 500": None,
    "chain of 1000": None,
    "chain of 2000": 10,
}

# Largest CPU time of a call, in times of `keras.models.clone_model` and `set_weights`.
COMPARED = ("ResNet50", "DenseNet121", "EfficientNetB0", "MobileNetV2")
TIMES = {"wrap": None, "prune": 3, "finalize": 3}
# Blocks with two layers without rules each, of four widths; wrap takes at most so many times as
# long as where both have rules, but for the fewest. Twice as many blocks take about twice as long.
BLOCKS, MOST_TRIED, MOST_GROWTH = (12, 24, 48), 1.3, 2.6
ONE_THREAD = {
    f"{name}_THREADS": "1"
    for name in ("OMP_NUM", "OPENBLAS_NUM", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")
}


def build(name):
    if not name.startswith("chain"):
        return getattr(keras.applications, name)(weights=None, classifier_activation=None)
    sys.setrecursionlimit(20_000)  # Keras maps a graph by recursion
    x = inputs = keras.Input((4, 4, 3))
    for _ in range(int(name.split()[-1])):
        x = layers.Conv2D(8, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def cpu_seconds(run):
    begin = time.process_time()
    run()
    return time.process_time() - begin


def measure(name):
    model = build(name)
    traces = [cpu_seconds(lambda: resrep_keras.trace(model)) for _ in range(3)]
    begin = time.process_time()
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.01, coupled=True))
    wrap_seconds = time.process_time() - begin
    weight_bytes = 4 * model.count_params()
    mask_at_random(wrapped)
    wrapped.method = None
    with PeakMemory() as memory:
        finalize_seconds = cpu_seconds(lambda: resrep_keras.finalize(wrapped, strict=True))
    return {
        "model": name,
        "calls": len(resrep_keras.trace(model).calls),
        "trace_seconds": float(np.median(traces)),
        "limit_seconds": LIMITS[name],
        "wrap_seconds": wrap_seconds,
        "finalize_seconds": finalize_seconds,
        "finalize_bytes": memory.peak,
        "limit_bytes": int(3 * weight_bytes + 1e9),
    }


def compare(name):
    """CPU seconds of copying a model, and of each call in times of that."""
    model = build(name)
    method = resrep_keras.ResRep(0.01)
    wrapped = resrep_keras.wrap(model, method)
    mask_at_random(wrapped)
    wrapped.method = None
    calls = {
        "copy": lambda: keras.models.clone_model(model).set_weights(model.get_weights()),
        "wrap": lambda: resrep_keras.wrap(model, method),
        "prune": lambda: resrep_keras.MagnitudePruning(0.5).prune(model),
        "finalize": lambda: resrep_keras.finalize(wrapped, strict=True),
    }
    seconds = {call: [] for call in calls}
    for _ in range(FLAGS.repeats + 1):
        for call, run in calls.items():
            seconds[call].append(cpu_seconds(run))
    medians = {call: float(np.median(measured[1:])) for call, measured in seconds.items()}
    times = {call: medians[call] / medians["copy"] for call in TIMES}
    return {"model": name, "copy_seconds": medians["copy"], "times": times}


class Swish(layers.Layer):
    """An activation of one's own."""

    def call(self, x):
        return x * keras.ops.sigmoid(x)


class Scale(layers.Layer):
    """A factor for each channel, as LayerScale."""

    def build(self, input_shape):
        self.factors = self.add_weight(shape=input_shape[-1:], initializer="ones", name="factors")

    def call(self, x):
        return x * self.factors


class KnownSwish(Swish):
    """The same, with rules."""


class KnownScale(Scale):
    """The same, with rules."""


def register_rules():
    flow.register(KnownSwish)(lambda layer, call: call.input)
    flow.register(KnownScale)(lambda layer, call: call.input)
    narrow.register(KnownScale)(
        lambda layer, part: (
            {},
            [take(weight, 0, part.keep_out) for weight in weight_values(layer)],
        )
    )
    for kind in (KnownSwish, KnownScale):
        macs.register(kind)(lambda layer, call: [])


def blocks(number, swish, scale):
    """Convolutions at four widths and sizes, a batch normalisation and the two layers behind."""
    x = inputs = keras.Input((32, 32, 3))
    for position in range(number):
        width = 16 * 2 ** (4 * position // number)
        strides = 2 if position and width > x.shape[-1] else 1
        x = layers.Conv2D(width, 3, strides=strides, padding="same", use_bias=False)(x)
        x = scale()(swish()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def compare_tried(number):
    """CPU seconds of wrap for layers without rules, and for the same ones with rules."""
    register_rules()
    models = {
        "tried": blocks(number, Swish, Scale),
        "known": blocks(number, KnownSwish, KnownScale),
    }
    seconds = {kind: [] for kind in models}
    for _ in range(FLAGS.repeats + 1):
        for kind, model in models.items():
            seconds[kind].append(
                cpu_seconds(lambda model=model: resrep_keras.wrap(model, resrep_keras.ResRep(0.01)))
            )
    medians = {kind: float(np.median(measured[1:])) for kind, measured in seconds.items()}
    return {"blocks": number, **medians, "times": medians["tried"] / medians["known"]}


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}. Seconds are those of the CPU, "
        "on one thread.",
        "",
    ]
    header = (
        "model",
        "calls",
        "trace (s)",
        "limit (s)",
        "wrap (s)",
        "finalize (s)",
        "its memory (GB)",
        "limit (GB)",
    )
    table = []
    for row in result["rows"]:
        table.append(
            (
                row["model"],
                f"{row['calls']:,}",
                f"{row['trace_seconds']:.2f}",
                row["limit_seconds"] or "-",
                f"{row['wrap_seconds']:.1f}",
                f"{row['finalize_seconds']:.1f}",
                f"{row['finalize_bytes'] / 1e9:.2f}",
                f"{row['limit_bytes'] / 1e9:.2f}",
            )
        )
    lines += markdown_table(header, table)
    lines += [
        "",
        "In times of `keras.models.clone_model` and `set_weights`; at most "
        f"{TIMES['prune']} for `MagnitudePruning.prune` and {TIMES['finalize']} for `finalize`.",
        "",
    ]
    header = ("model", "copy (s)", "wrap", "prune", "finalize")
    table = []
    for row in result["compared"]:
        times = (f"{row['times'][call]:.2f}" for call in TIMES)
        table.append((row["model"], f"{row['copy_seconds']:.2f}", *times))
    lines += markdown_table(header, table)
    lines += [
        "",
        "Blocks with an activation and a scale that nobody has registered, against the same with "
        f"rules: seconds of `wrap`, of which trying may take {MOST_TRIED - 1:.0%} more.",
        "",
    ]
    header = ("blocks", "with rules (s)", "tried (s)", "times")
    table = []
    for row in result["tried"]:
        table.append(
            (row["blocks"], f"{row['known']:.2f}", f"{row['tried']:.2f}", f"{row['times']:.2f}")
        )
    lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def in_a_process(flag, name):
    """The JSON that this file prints with a flag, in a process of its own and on one thread."""
    done = subprocess.run(
        [sys.executable, __file__, f"--{flag}={name}", f"--repeats={FLAGS.repeats}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    row = json.loads(done.stdout.strip().splitlines()[-1])
    print(row, flush=True)
    return row


def main(_):
    for given, run in (
        (FLAGS.measure, measure),
        (FLAGS.compare, compare),
        (FLAGS.tried, compare_tried),
    ):
        if given:
            print(json.dumps(run(given)))
            return
    compared = [in_a_process("compare", name) for name in COMPARED]
    tried = [in_a_process("tried", number) for number in BLOCKS]
    rows = [in_a_process("measure", name) for name in LIMITS]
    result = {
        "command": "python benchmarks/speed.py",
        "machine": f"{os.cpu_count()} {platform.machine()} vCPUs, Keras {keras.__version__}",
        "rows": rows,
        "compared": compared,
        "tried": tried,
    }
    write_result(result, as_markdown(result))
    late = [r["model"] for r in rows if r["trace_seconds"] > (r["limit_seconds"] or float("inf"))]
    large = [r["model"] for r in rows if r["finalize_bytes"] > r["limit_bytes"]]
    slow = [
        f"{call} of {row['model']}"
        for row in compared
        for call, most in TIMES.items()
        if most is not None and row["times"][call] > most
    ]
    slow += [
        f"trying {row['blocks']} blocks"
        for row in tried
        if row["times"] > MOST_TRIED and row["blocks"] > BLOCKS[0]
    ]
    slow += [
        f"{more['blocks']} blocks against {less['blocks']}"
        for less, more in itertools.pairwise(tried)
        if more["tried"] > MOST_GROWTH * less["tried"]
    ]
    if late or large or slow:
        raise SystemExit(
            f"Over the limit of time: {late}; of memory: {large}; of times that are told: {slow}."
        )


if __name__ == "__main__":
    app.run(main)
