"""How far outputs are from a teacher's, against formulas, by the heads of both."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

from resrep_keras.graph.last_activation import LastActivation
from resrep_keras.training.divergences import (
    SIGMOID,
    SOFTMAX,
    Head,
    OfClasses,
    OfEachAlone,
    by_output,
    loss_of_head,
)

GENERATOR = np.random.default_rng(0)
TEACHER, STUDENT = (GENERATOR.normal(size=(8, 5, 3)).astype("float32") for _ in range(2))
T = 3.0
LOGITS = Head(LastActivation(None), LastActivation(None))
CLASSES = Head(LastActivation(SOFTMAX), LastActivation(SOFTMAX))
UNITS = Head(LastActivation(SIGMOID), LastActivation(SIGMOID))


def of_classes():
    p, q = (special.softmax(x / T, -1).astype("float64") for x in (TEACHER, STUDENT))
    return T**2 * (p * np.log(p / q)).sum(-1)


def of_each_alone():
    p, q = (special.expit(x / T).astype("float64") for x in (TEACHER, STUDENT))
    return T**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)


def test_logits_and_probabilities_diverge_alike():
    expected = of_classes().mean()
    assert float(OfClasses(T, LOGITS)(TEACHER, STUDENT)) == pytest.approx(expected, rel=1e-5)
    probable = [special.softmax(x, -1) for x in (TEACHER, STUDENT)]
    assert float(OfClasses(T, CLASSES)(*probable)) == pytest.approx(expected, rel=1e-5)
    mixed = Head(LastActivation(SOFTMAX), LastActivation(None))
    assert float(OfClasses(T, mixed)(TEACHER, probable[1])) == pytest.approx(expected, rel=1e-5)
    keras_own = keras.distillation.LogitsDistillation(T, keras.losses.KLDivergence())
    assert float(keras_own.compute_loss(TEACHER, STUDENT)) == pytest.approx(expected, rel=1e-5)


def test_a_softmax_over_another_axis():
    first = Head(LastActivation(SOFTMAX, 1), LastActivation(SOFTMAX, 1))
    moved = [np.moveaxis(special.softmax(x, -1), -1, 1) for x in (TEACHER, STUDENT)]
    assert float(OfClasses(T, first)(*moved)) == pytest.approx(of_classes().mean(), rel=1e-5)


def test_sigmoids():
    expected = of_each_alone().mean()
    assert float(OfEachAlone(T, LOGITS)(TEACHER, STUDENT)) == pytest.approx(expected, rel=1e-5)
    probable = [special.expit(x) for x in (TEACHER, STUDENT)]
    assert float(OfEachAlone(T, UNITS)(*probable)) == pytest.approx(expected, rel=1e-4)


def test_saturated_heads_give_numbers():
    certain = np.array([[1.0, 0.0]], "float32")
    for loss in (OfClasses(T, CLASSES), OfEachAlone(T, UNITS)):
        assert float(loss(certain, certain)) == pytest.approx(0, abs=1e-6)
        assert np.isfinite(float(loss(certain, certain[:, ::-1])))


def test_weights_of_examples_and_masks_count():
    weight = np.arange(8, dtype="float32")
    expected = (of_classes() * weight[:, None]).mean()
    found = OfClasses(T, LOGITS)(TEACHER, STUDENT, sample_weight=weight[:, None])
    assert float(found) == pytest.approx(expected, rel=1e-5)


FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OF_TWO = keras.losses.BinaryCrossentropy(from_logits=True)
RELU, NONE = keras.activations.relu, None


@pytest.mark.parametrize(
    ("student", "teacher", "loss", "expected"),
    [
        (SOFTMAX, SOFTMAX, "sparse_categorical_crossentropy", OfClasses),
        (SOFTMAX, SOFTMAX, None, OfClasses),
        (SOFTMAX, NONE, "mse", OfClasses),
        (SIGMOID, SIGMOID, "binary_crossentropy", OfEachAlone),
        (NONE, NONE, FROM_LOGITS, OfClasses),
        (NONE, SOFTMAX, FROM_LOGITS, OfClasses),
        (NONE, NONE, OF_TWO, OfEachAlone),
        (NONE, SIGMOID, OF_TWO, OfEachAlone),
        (NONE, NONE, "mse", keras.losses.MeanSquaredError),
        (RELU, NONE, FROM_LOGITS, keras.losses.MeanSquaredError),
        (NONE, SOFTMAX, "mse", None),
        (SOFTMAX, SIGMOID, None, None),
        (SIGMOID, RELU, None, None),
    ],
)
def test_the_head_says_what_is_compared(student, teacher, loss, expected):
    head = Head(LastActivation(student), LastActivation(teacher))
    if expected is None:
        with pytest.raises(ValueError, match="Expected a teacher with the head of the model"):
            loss_of_head(head, loss, T)
    else:
        assert type(loss_of_head(head, loss, T)) is expected


def two(structure):
    x = keras.Input((2,))
    a, b = (keras.layers.Dense(1, name=name)(x) for name in ("b", "a"))
    return keras.Model(x, structure(a, b))


@pytest.mark.parametrize("structure", [lambda b, a: [b, a], lambda b, a: {"y": b, "x": a}])
@pytest.mark.parametrize("given", [[1, 2], (1, 2)])
def test_what_is_given_for_each_output(structure, given):
    model = two(structure)
    assert by_output(model, given) == [1, 2]
    assert by_output(model, 3) == [3, 3] and by_output(model, None) == [None, None]


def test_what_is_given_by_name():
    assert by_output(two(lambda b, a: [b, a]), {"a": 1, "b": 2}) == [2, 1]
    assert by_output(two(lambda b, a: {"y": b, "x": a}), {"x": 1, "y": 2}) == [1, 2]
    assert by_output(two(lambda b, a: [b, a]), {"a": 1}) == [None, 1]
    one = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert by_output(one, ["mse"]) == ["mse"] == by_output(one, "mse")


def test_dtypes_are_those_of_losses():
    half = ops.cast(STUDENT, "float16")
    found = OfClasses(T, LOGITS)(TEACHER, half)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
