"""What is no model, no method or no bool is told by its argument's name, before all else."""

import re

import keras
import numpy as np
import pytest

import resrep_keras as rk


@pytest.fixture(scope="module")
def model():
    layers = [keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    return keras.Sequential(layers)


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"Expected model to be a built keras\.Model; got \[1\] of"):
        rk.wrap([1])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (rk.wrap, "model"),
        (rk.finalize, "model"),
        (rk.trace, "model"),
        (rk.explain, "model"),
        (rk.count_macs, "model"),
        (rk.count_params, "model"),
        (rk.widths_of, "model"),
        (rk.gradient_sparsity, "model"),
        (rk.backward_macs, "model"),
        (lambda model: rk.export(model, "slim.keras"), "model"),
        (lambda model: rk.redesign(model, {}), "dense"),
        (lambda model: rk.search(model, len, len), "dense"),
        (lambda model: rk.report(model, model), "dense"),
        (lambda model: rk.pruning_plasticity(model, len, len), "model"),
        (lambda model: rk.MagnitudePruning().prune(model), "model"),
    ],
)
@pytest.mark.parametrize("value", [[1], None, "model.keras", keras.Sequential])
def test_every_function_of_a_model_names_its_argument(call, name, value):
    with pytest.raises(TypeError, match=f"Expected {name} to be a built keras.Model; got"):
        call(value)


def test_a_class_where_a_method_is_wanted(model):
    text = "got the class ResRep itself. Make one: ResRep(...)."
    for call in (
        lambda: rk.wrap(model, rk.ResRep),
        lambda: rk.search(model, len, len, method=rk.ResRep),
        lambda: rk.PruningCallback(rk.ResRep),
        lambda: rk.compose(rk.GraNet(), rk.ResRep),
    ):
        with pytest.raises(TypeError, match=f"be a pruning method.*{re.escape(text)}"):
            call()


def test_search_with_a_method_that_removes_no_channels(model):
    called = []
    with pytest.raises(ValueError, match=r"expects a method that removes channels.*got GraNet\("):
        rk.search(model, called.append, called.append, method=rk.GraNet())
    assert not called


@pytest.mark.parametrize("value", ["False", "yes", 0, 1.0, None, []])
def test_a_text_is_no_bool(model, value):
    for name, call in {
        "coupled": lambda: rk.ResRep(coupled=value),
        "exact": lambda: rk.trace(model, exact=value),
        "strict": lambda: rk.finalize(model, strict=value),
        "sparse": lambda: rk.export(model, "slim.tflite", sparse=value),
        "diagonal": lambda: rk.Compactor(diagonal=value),
        "delete_checkpoint": lambda: rk.Backup("backup", delete_checkpoint=value),
    }.items():
        with pytest.raises(TypeError, match=f"Expected {name} to be True or False; got"):
            call()


def test_numbers_of_numpy_are_kept_as_python_has_them():
    method = rk.ResRep(
        np.float32(0.5), min_channels=np.int64(2), coupled=np.bool_(True), momentum=np.float64(0.5)
    )
    for value, kind in (
        (method.target_reduction, float),
        (method.min_channels, int),
        (method.coupled, bool),
        (method.momentum, float),
    ):
        assert type(value) is kind
    assert type(rk.GraNet(seed=np.int32(3)).seed) is int
    assert rk.ResRep.from_config(method.get_config()) == method


def test_a_preset_names_its_own_argument():
    for preset in (rk.GraNet.rigl, rk.GraNet.set, rk.GraNet.static):
        with pytest.raises(ValueError, match=r"Expected sparsity to be a number of 0 or more"):
            preset(1.5)
    assert rk.GraNet.static(0.5, regrow_rate=0.25).regrow_rate == 0.25


def test_scores_that_are_no_numbers(model):
    with pytest.raises(ValueError, match=r"Expected evaluate\(model\) to return a number"):
        rk.pruning_plasticity(model, len, lambda model: "good")


def test_a_checkpoint_takes_no_argument_that_it_would_ignore():
    for name in ("save_freq", "save_weights_only", "save_best_only"):
        with pytest.raises(TypeError, match=f"Expected no other arguments.*got {name}"):
            rk.PrunedCheckpoint("best.keras", **{name: 5})
