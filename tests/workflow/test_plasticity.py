"""What pruning at one point of training does, and how it is told."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.workflow.plasticity import Plasticity, pruning_plasticity
from tests import paths


def net():
    inputs = keras.Input((12,))
    x = layers.Dense(10, activation="relu", name="first")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="last")(x))


def weights_of(model):
    return np.concatenate(
        [ops.convert_to_numpy(model.get_layer(name).kernel).ravel() for name in ("first", "last")]
    )


def train(model, epochs=3):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(32, 12)).astype("float32"), generator.integers(0, 3, 32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0)


@pytest.mark.parametrize("regrow_rate", [0.0, 0.5])
def test_the_smallest_weights_go_and_the_same_number_stays_zero(regrow_rate):
    model = net()
    before = weights_of(model)
    number = round(len(before) * 0.8)
    smallest = np.argsort(np.abs(before), kind="stable")[:number]
    seen = []

    def evaluate(model):
        seen.append(weights_of(model))
        return float((seen[-1] == 0).sum())

    found = pruning_plasticity(
        model, train, evaluate, sparsity=0.8, regrow_rate=regrow_rate, interval=2
    )
    start, pruned, after = seen
    np.testing.assert_array_equal(start, before)
    np.testing.assert_array_equal(weights_of(model), before)  # left as it is
    np.testing.assert_array_equal(np.flatnonzero(pruned == 0), np.sort(smallest))
    rest = np.setdiff1d(np.arange(len(before)), smallest)
    np.testing.assert_array_equal(pruned[rest], before[rest])
    assert (after[rest] != pruned[rest]).any()  # it was trained
    moved = np.setdiff1d(np.flatnonzero(after), rest)
    if regrow_rate:
        assert len(moved) > 0 and (after == 0).sum() >= number
    else:
        assert len(moved) == 0 and (after == 0).sum() == number
    assert found == Plasticity(0.0, number, (after == 0).sum(), number / len(before), regrow_rate)
    assert found.value == found.after - found.before


def test_each_layer_by_itself():
    model = net()

    def check(model):
        for name in ("first", "last"):
            kernel = ops.convert_to_numpy(model.get_layer(name).kernel)
            shares.append((kernel == 0).mean())
        return 0.0

    shares = []
    pruning_plasticity(model, train, check, sparsity=0.5, scope="layer")
    assert shares == [0, 0, 0.5, 0.5, 0.5, 0.5]


def test_training_that_does_not_hold_the_masks_is_refused():
    def careless(model):
        model.set_weights([np.ones(w.shape) for w in model.weights])

    with pytest.raises(ValueError, match=r"keep 120 weights at zero; 0 are left.*compile\(\) and"):
        pruning_plasticity(net(), careless, lambda model: 0.0, sparsity=0.8)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sparsity": 0}, "sparsity to be a number above 0 and below 1; got 0"),
        ({"scope": "all"}, "scope to be 'global' or 'layer'; got 'all'"),
        ({"regrow_rate": 1}, "regrow_rate to be a number of 0 or more and below 1; got 1"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ValueError, match=text):
        pruning_plasticity(net(), train, lambda model: 0.0, **settings)


@pytest.mark.tensorflow_only
def test_the_example_falls_with_the_learning_rate(tmp_path):
    """In a process of its own: the flags of examples are global."""
    script = paths.ROOT / "examples" / "pruning_plasticity.py"
    arguments = ["--units=40", "--epochs=12", "--points=5,11", "--more=2", "--regrow_rates=0"]
    done = subprocess.run(
        [sys.executable, script, *arguments, f"--write={tmp_path / 'found'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    early, late = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (early["learning_rate"], late["learning_rate"]) == (0.1, 0.001)
    assert early["pruned"] < early["before"] - 5 and late["pruned"] < late["before"] - 5
    assert early["value"] > late["value"] + 1
    page = (tmp_path / "found.md").read_text()
    assert "| 5 | 0.1 | 0 |" in " ".join(page.split())
