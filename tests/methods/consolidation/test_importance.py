"""Importance, against finite differences and by hand, and the labels and heads that it reads."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import EWC, MAS, ANPyC
from resrep_keras.methods.consolidation.data import TaskData
from resrep_keras.methods.consolidation.importance import Classes, classes_of
from resrep_keras.optimizers.wrapper import find_wrapper

W, B = 0.7, -0.4
X = np.array([[0.3], [-1.2], [2.0], [0.9], [-0.5]], "float32")
Y = np.array([1, 0, 1, 0, 0])


def logistic(method, activation=None, w=W, b=B):
    """Two parameters: one logit `w x + b`."""
    inputs = keras.Input((1,))
    dense = keras.Model(inputs, layers.Dense(1, activation=activation, name="d")(inputs))
    dense.set_weights([np.array([[w]], "float32"), np.array([b], "float32")])
    model = resrep_keras.wrap(dense, method)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def measured(model, x=X, y=Y):
    found = model.method.measure(model, find_wrapper(model.optimizer), TaskData(model, x, y))
    return np.array([np.array(ops.convert_to_numpy(each)).item() for each in found])


def differences(function, *point, step=1e-5):
    """Central finite differences, in float64."""
    return np.array(
        [
            (function(*point + shift) - function(*point - shift)) / (2 * step)
            for shift in step * np.eye(len(point))
        ]
    )


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def entropy(x):
    def of(w, b):
        p = sigmoid(w * x + b)
        return -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()

    return of


def taylor(gradient, weights):
    return gradient * weights + (gradient * weights) ** 2 / 2


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("clip_before_mean", [True, False])
@pytest.mark.parametrize("variant", ["released", "absolute"])
def test_the_entropy_of_answers_against_finite_differences(variant, clip_before_mean, activation):
    method = ANPyC(
        variant=variant,
        clip_before_mean=clip_before_mean,
        importance_batch_size=2,
        initial_percent=None,
    )
    point = np.array([W, B])
    batches = [X[0:2], X[2:4], X[4:5]]  # two, two and one
    each = [taylor(differences(entropy(x.astype(float)), *point), point) for x in batches]
    bound = np.abs if variant == "absolute" else lambda change: np.maximum(change, 0)
    expected = np.mean(bound(each), 0) if clip_before_mean else bound(np.mean(each, 0))
    assert np.ptp(np.sign(each), 0).any()  # clipping before and after the mean differ
    found = measured(logistic(method, activation), y=None)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-7)


def test_a_weight_of_zero_has_no_importance():
    for method in (ANPyC(), ANPyC(variant="absolute")):
        found = measured(logistic(method, b=0.0))
        assert found[1] == 0
    assert found[0] > 0


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_the_fisher_information_against_finite_differences(activation):
    def log_likelihood(x, y):
        return lambda w, b: np.log(sigmoid((1 if y else -1) * (w * x + b)))

    gradients = [differences(log_likelihood(x, y), W, B) for x, y in zip(X[:, 0], Y)]
    for samples, taken in ((None, 5), (1000, 5), (3, 3)):
        expected = np.mean(np.square(gradients[:taken]), 0)
        found = measured(logistic(EWC(samples=samples), activation))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_outputs_that_move_against_finite_differences():
    gradients = [differences(lambda w, b, x=x: (w * x + b) ** 2, W, B) for x in X[:, 0]]
    for samples, taken in ((None, 5), (2, 2)):
        expected = np.abs(gradients[:taken]).mean(0)
        np.testing.assert_allclose(measured(logistic(MAS(samples=samples))), expected, rtol=1e-4)


# --- probabilities --------------------------------------------------------------------------------


def head(kind):
    inputs = keras.Input((2,))
    x = layers.Dense(3, activation=kind if isinstance(kind, str) else None)(inputs)
    return keras.Model(inputs, x if kind is None or isinstance(kind, str) else kind(x))


@pytest.mark.parametrize(
    ("kind", "from_logits", "exclusive"),
    [
        (None, True, True),
        ("linear", True, True),
        ("softmax", False, True),
        ("sigmoid", False, False),
        (layers.Softmax(), False, True),
        (layers.Activation("softmax"), False, True),
        (layers.Activation("softmax", dtype="float32"), False, True),
        (ops.softmax, False, True),
        (ops.sigmoid, False, False),
        (keras.activations.softmax, False, True),
        (lambda x: layers.Identity(name="named")(layers.Softmax()(x)), False, True),
    ],
)
def test_what_a_head_gives_is_told_by_its_activation(kind, from_logits, exclusive):
    model = resrep_keras.wrap(head(kind), ANPyC())
    assert classes_of(model) == Classes(from_logits, exclusive)
    assert classes_of(model, from_logits=True) == Classes(True, exclusive)


def test_entropies_are_those_of_scipy_and_never_nan():
    logits = np.array([[1.0, -2, 0.5], [1000, -1000, 0], [0, 0, 0]], "float32")
    p = np.exp(logits.astype(float) - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    expected = -(p * np.log(np.maximum(p, 1e-300))).sum()
    np.testing.assert_allclose(Classes(True, True).entropy(logits), expected, rtol=1e-6)
    np.testing.assert_allclose(Classes(False, True).entropy(p), expected, rtol=1e-6)
    each = 1 / (1 + np.exp(-np.clip(logits.astype(float), -80, 80)))
    rest = 1 / (1 + np.exp(np.clip(logits.astype(float), -80, 80)))
    expected = -(each * np.log(each) + rest * np.log(rest)).sum()
    np.testing.assert_allclose(Classes(True, False).entropy(logits), expected, rtol=1e-6)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_saturated_answers_have_finite_importance(activation):
    inputs = keras.Input((2,))
    dense = keras.Model(inputs, layers.Dense(3, activation=activation)(inputs))
    dense.set_weights([1e4 * np.array([[1, -1, 0], [0, 2, -2]], "float32"), np.zeros(3)])
    for method in (ANPyC(), EWC(), MAS()):
        model = resrep_keras.wrap(dense, method)
        model.compile("sgd", "mse")
        model.optimizer.build(model.trainable_variables)
        data = TaskData(model, np.ones((4, 2), "float32"), np.array([0, 1, 2, 0]))
        data.y = np.eye(3)[data.y] if activation == "sigmoid" else data.y
        for found in model.method.measure(model, model.optimizer, data):
            assert np.isfinite(ops.convert_to_numpy(found)).all()


def test_labels_may_be_numbers_columns_or_one_hot():
    outputs = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    labels = np.array([2, 0, 1, 1])
    logs = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    expected = logs[np.arange(4), labels].sum()
    for given in (labels, labels[:, None], np.eye(3)[labels]):
        found = Classes(True, True).log_likelihood(outputs, ops.convert_to_tensor(given))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    smooth = 0.8 * np.eye(3)[labels] + 0.2 / 3
    found = Classes(True, True).log_likelihood(outputs, ops.convert_to_tensor(smooth))
    np.testing.assert_allclose(found, (smooth * logs).sum(), rtol=1e-6)


def test_each_entry_of_a_map_is_an_answer():
    outputs = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype("float32")
    labels = np.random.default_rng(1).integers(0, 4, (2, 3, 3))
    flat = Classes(True, True).log_likelihood(outputs.reshape(-1, 4), labels.reshape(-1))
    found = Classes(True, True).log_likelihood(outputs, ops.convert_to_tensor(labels))
    np.testing.assert_allclose(found, flat, rtol=1e-6)
