"""How seconds are measured."""

import time

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.costs.latency import keras_latency, median_seconds, tflite_latency
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.signature import signature_of


def test_functions_are_called_in_turn_so_many_times_after_a_warm_up():
    called = []
    median_seconds([lambda: called.append("a"), lambda: called.append("b")], repeats=3, warmup=2)
    assert called == ["a", "b"] * (2 + 3)


def test_the_median_is_that_of_the_repeats(monkeypatch):
    # Begin and end of three calls, which take 1, 5 and 2 seconds.
    clock = iter([0, 1, 10, 15, 20, 22])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert median_seconds([lambda: None], repeats=3, warmup=1) == [2.0]


@pytest.fixture
def models():
    return [keras.Sequential([keras.Input((3,)), layers.Dense(n)]) for n in (2, 4)]


def test_one_number_for_each_model(models):
    seconds = keras_latency(models, np.ones((1, 3)), repeats=2)
    assert len(seconds) == 2 and all(0 < value < 10 for value in seconds)


@pytest.mark.tensorflow_only
def test_one_number_for_each_file(models):
    inputs = [signature_of(model).by_name(np.ones((1, 3))) for model in models]
    seconds = tflite_latency([to_tflite(model) for model in models], inputs, repeats=3)
    assert len(seconds) == 2 and all(0 < value < 10 for value in seconds)
