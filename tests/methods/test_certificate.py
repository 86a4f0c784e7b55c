"""Certificates: differences by hand, and what is told of them."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.graph.record import record
from resrep_keras.methods.certificate import (
    HALF_TOLERANCE,
    TOLERANCE,
    Certificate,
    certify,
    compare,
    differing,
    tolerance_of,
)


def scaled(*factors):
    """A model with one output for each factor."""
    inputs = keras.Input((2,))
    outputs = [layers.Rescaling(factor, name=f"out{i}")(inputs) for i, factor in enumerate(factors)]
    return keras.Model(inputs, outputs)


def test_differences_on_data_by_hand():
    before, after = record(scaled(1.0, 10.0)), record(scaled(1.0, 9.0))
    found = certify(before, after, macs=(200, 50), data=np.array([[1.0, 4.0]], "float32"))
    assert found.data_max_absolute == pytest.approx(40 - 36)
    assert found.data_max_relative == pytest.approx(4 / 40)  # of the output that it belongs to
    assert found.max_relative == pytest.approx(0.1, rel=1e-5)
    assert (found.macs_dense, found.macs_slim, found.macs_left) == (200, 50, 0.25)


def test_it_is_told_in_sentences():
    told = str(
        Certificate(
            1e-3,
            2e-7,
            2_000,
            500,
            0.25,
            1e-3,
            3e-6,
            (("macs", 1_234_567, 2e6), ("latency", 0.00123, 0.002)),
            (("a", "why"),),
            (("b", "kernel_constraint"),),
            ("c", "d"),
        )
    )
    assert told.splitlines() == [
        "500 of 2,000 MACs are left (25.0%).",
        "Outputs differ by 2e-07 of the largest on random inputs, by 3e-06 on data.",
        "macs: 1,234,567 of at most 2,000,000.",
        "latency: 0.00123 of at most 0.002.",
        "Outputs change where channels of a went.",
        "Dropped, since the new weights would break them: kernel_constraint of b.",
        "Then changed on data: c, d.",
    ]


def test_equal_models_differ_by_nothing():
    found = certify(record(scaled(2.0)), record(scaled(2.0)), macs=(0, 0))
    assert found.max_absolute == found.max_relative == 0
    assert found.data_max_relative is None and found.macs_left == 0


def certificate(relative, on_data=None):
    return Certificate(0.0, relative, 2, 1, 0.5, None, on_data)


@pytest.mark.parametrize(
    ("relative", "on_data", "number"),
    [(1e-6, None, 0), (0.02, None, 1), (1e-6, 0.02, 1), (0.02, 1e-6, 0), (float("inf"), None, 1)],
)
def test_a_difference_above_the_tolerance_is_told_that_on_data_where_there_are_any(
    relative, on_data, number
):
    told = list(differing(certificate(relative, on_data), TOLERANCE))
    assert len(told) == number
    assert all("Slim and wrapped model differ by" in text for text in told)


def test_what_is_not_finite_is_called_that():
    (text,) = differing(certificate(float("inf")), TOLERANCE)
    assert "The outputs are not finite" in text
    nan = float("nan")
    (text,) = differing(certificate(nan), TOLERANCE)
    assert "not comparable on random inputs" in text and "Give data" in text
    assert not list(differing(certificate(nan, 1e-6), TOLERANCE))
    (text,) = differing(certificate(1e-6, nan), TOLERANCE)
    assert "not comparable on the data given" in text and "diverged" in text


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", TOLERANCE), ("mixed_float16", HALF_TOLERANCE), ("bfloat16", HALF_TOLERANCE)],
)
def test_models_in_16_bits_may_differ_more(dtype, tolerance):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, dtype=dtype)])
    assert tolerance_of(model) == tolerance


def test_a_slim_model_is_compared_with_its_problems_first():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    slim = keras.models.clone_model(model)  # weights of its own: outputs differ
    done = compare(model, resrep_keras.trace(model), slim, problems=("a target is not met",))
    assert done.slim is slim and done.certificate.macs_slim == 2 * 3
    assert done.problems[0] == "a target is not met" and "differ by" in done.problems[1]
