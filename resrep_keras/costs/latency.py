"""Latency: seconds for one call, the median of repeats after a warm-up."""

import time

import numpy as np

from resrep_keras.tflite.run import TFLiteRunner


def median_seconds(calls, repeats=50, warmup=5):
    """Median seconds of each of several functions, called in turn so that drift hits all alike."""
    seconds = [[] for _ in calls]
    for _ in range(warmup):
        for call in calls:
            call()
    for _ in range(repeats):
        for call, measured in zip(calls, seconds):
            begin = time.perf_counter()
            call()
            measured.append(time.perf_counter() - begin)
    return [float(np.median(measured)) for measured in seconds]


def tflite_latency(contents, inputs, threads=1, repeats=50):
    """Median seconds of several flatbuffers, measured side by side.

    Args:
        contents: The flatbuffers, bytes.
        inputs: The inputs of each, ``{name: array}``.
        threads, repeats: As they are named.
    """
    runners = [TFLiteRunner(content, threads) for content in contents]
    for runner, named in zip(runners, inputs, strict=True):
        runner.set_inputs(named)
    return median_seconds([runner.invoke for runner in runners], repeats)


def keras_latency(models, inputs, repeats=20):
    """Median seconds of several models' `predict_on_batch` on the same inputs, side by side."""
    return median_seconds([lambda m=m: m.predict_on_batch(inputs) for m in models], repeats)
