"""The first argument of every method is its target, and what errors tell to write exists."""

import inspect
import re

import keras
import numpy as np
import pytest

import resrep_keras as rk

METHODS = {
    rk.ResRep: "target_reduction",
    rk.AOFP: "target_reduction",
    rk.FPGM: "target_reduction",
    rk.GroupLasso: "target_reduction",
    rk.MagnitudePruning: "target_reduction",
    rk.NetworkSlimming: "target_reduction",
    rk.RandomPruning: "target_reduction",
    rk.TaylorPruning: "target_reduction",
    rk.GraNet: "final_sparsity",
    rk.ActivationGradientPruning: "rate",
}

UNPLANNED = (rk.ActivationGradientPruning,)  # the length of a run does not matter


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_the_first_argument_is_the_target(kind):
    assert next(iter(inspect.signature(kind).parameters)) == METHODS[kind]
    method = kind(0.8)
    assert vars(method)[METHODS[kind]] == 0.8


def test_granet_of_one_number_ends_at_that_sparsity():
    method = rk.GraNet(0.8)
    assert (method.final_sparsity, method.initial_sparsity) == (0.8, 0.0)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("kind", [kind for kind in METHODS if kind not in UNPLANNED])
def test_the_remedy_for_a_run_of_unknown_length_can_be_called(kind):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(8, 3)(x)
    model = rk.wrap(keras.Model(inputs, keras.layers.Flatten()(x)), kind(0.3))
    model.compile("sgd", "mse")

    def batches():
        yield np.ones((2, 8, 8, 1), "float32"), np.ones((2, 128), "float32")

    with pytest.raises(ValueError, match="The number of steps of this run is not known") as told:
        model.fit(batches(), epochs=1, verbose=0, shuffle=False)
    name, argument = re.search(r"or (\w+)\((\w+)=", str(told.value)).groups()
    assert getattr(rk, name)(**{argument: 10}).total_steps == 10
