"""Seconds and memory of trace, wrap and finalize on large models, against their limits.

    python benchmarks/speed.py

Each model runs in a process of its own. Trace seconds are the median of three. A chain of 500,
1,000 and 2,000 layers shows how the work grows. Results go to benchmarks/results/speed.json and
.md.
"""

import json
import os
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from absl import app, flags
from common import PeakMemory, machine, mask_at_random, write_result
from keras import layers

import resrep_keras
from resrep_keras.costs.latency import median_seconds

FLAGS = flags.FLAGS
flags.DEFINE_string("measure", None, "Measure this model in this process and print JSON.")

# Largest seconds of trace; None where the row only shows how the work grows.
LIMITS = {
    "ResNet152": 5,
    "EfficientNetV2L": 8,
    "NASNetLarge": 10,
    "chain of 500": None,
    "chain of 1000": None,
    "chain of 2000": 10,
}


def build(name):
    if not name.startswith("chain"):
        return getattr(keras.applications, name)(weights=None, classifier_activation=None)
    sys.setrecursionlimit(20_000)  # Keras maps a graph by recursion
    x = inputs = keras.Input((4, 4, 3))
    for _ in range(int(name.split()[-1])):
        x = layers.Conv2D(8, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def measure(name):
    model = build(name)
    trace_seconds = median_seconds([lambda: resrep_keras.trace(model)], 3, warmup=0)[0]
    begin = time.perf_counter()
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.01, coupled=True))
    wrap_seconds = time.perf_counter() - begin
    weight_bytes = 4 * model.count_params()
    mask_at_random(wrapped)
    wrapped.method = None
    begin = time.perf_counter()
    with PeakMemory() as memory:
        resrep_keras.finalize(wrapped, strict=True)
    return {
        "model": name,
        "calls": len(resrep_keras.trace(model).calls),
        "trace_seconds": trace_seconds,
        "limit_seconds": LIMITS[name],
        "wrap_seconds": wrap_seconds,
        "finalize_seconds": time.perf_counter() - begin,
        "finalize_bytes": memory.peak,
        "limit_bytes": int(3 * weight_bytes + 1e9),
    }


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}.",
        "",
        "| model | calls | trace (s) | limit (s) | wrap (s) | finalize (s) | its memory (GB) | "
        "limit (GB) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['model']} | {row['calls']:,} | {row['trace_seconds']:.2f} | "
            f"{row['limit_seconds'] or '-'} | {row['wrap_seconds']:.1f} | "
            f"{row['finalize_seconds']:.1f} | {row['finalize_bytes'] / 1e9:.2f} | "
            f"{row['limit_bytes'] / 1e9:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main(_):
    if FLAGS.measure:
        print(json.dumps(measure(FLAGS.measure)))
        return
    rows = []
    for name in LIMITS:
        command = [sys.executable, __file__, f"--measure={name}"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(rows[-1], flush=True)
    result = {
        "command": "python benchmarks/speed.py",
        "machine": machine(),
        "rows": rows,
    }
    write_result(result, as_markdown(result))
    late = [r["model"] for r in rows if r["trace_seconds"] > (r["limit_seconds"] or float("inf"))]
    large = [r["model"] for r in rows if r["finalize_bytes"] > r["limit_bytes"]]
    if late or large:
        raise SystemExit(f"Over the limit of time: {late}; of memory: {large}.")


if __name__ == "__main__":
    app.run(main)
