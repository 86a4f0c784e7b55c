"""Activations, PReLU, softmax, and layers that act in training only."""

import keras
import pytest
from keras import layers

from resrep_keras.costs.activations import runs_in_place
from resrep_keras.costs.latency_model import is_fused
from resrep_keras.graph.flow import rule_of
from resrep_keras.rules.elementwise import SAME
from resrep_keras.surgery.narrow import narrow
from resrep_keras.surgery.rebuild import copy_operation
from tests.rules.calls import IMAGE, ROW, SEQUENCE, Answer, mask, part


@pytest.mark.parametrize(
    ("layer", "state"),
    [
        (layers.ReLU(), "ZERO"),
        (layers.LeakyReLU(), "ZERO"),
        (layers.ELU(), "ZERO"),
        (layers.Activation("tanh"), "ZERO"),
        (layers.Activation("sigmoid"), "CONSTANT"),
        (layers.PReLU(), "ZERO"),
    ],
)
def test_a_function_of_zero(layer, state):
    answer = Answer(layer, ROW)
    assert answer.ids() == [0, 1, 2] and answer.states == {state}
    assert runs_in_place(layer)


def test_an_activation_over_channels_is_pinned():
    assert Answer(layers.Activation("softmax"), ROW).pins("mixes channels")
    assert Answer(layers.Softmax(), ROW).pins("depends on all channels together")


def test_a_softmax_over_positions_leaves_a_constant():
    assert Answer(layers.Softmax(axis=1), SEQUENCE).states == {"CONSTANT"}


def test_slopes_that_differ_between_positions_make_constants_uneven():
    uneven = Answer(layers.PReLU(), IMAGE, activation="sigmoid")
    assert uneven.states == {"FIXED"}
    shared = Answer(layers.PReLU(shared_axes=[1, 2]), IMAGE, activation="sigmoid")
    assert shared.states == {"CONSTANT"}


def test_slopes_are_narrowed_along_the_channels():
    answer = Answer(layers.PReLU(shared_axes=[1, 2]), IMAGE)
    layer = answer.call.operation
    _, (alpha,) = rule_of(narrow, layer)(layer, part(None, mask(1, 0, 1), call=answer.call))
    assert alpha.shape == (1, 1, 2)


def test_a_noise_shape_holds_the_number_of_channels():
    answer = Answer(layers.Dropout(0.5, noise_shape=(None, 1, 3)), SEQUENCE)
    layer = answer.call.operation
    keep = part(None, mask(1, 0, 1), call=answer.call)
    assert rule_of(narrow, layer)(layer, keep) == ({"noise_shape": (None, 1, 2)}, [])


@pytest.mark.parametrize("kind", SAME)
def test_what_acts_in_training_only_costs_nothing(kind):
    settings = {} if kind in (layers.Identity, layers.ActivityRegularization) else {"rate": 0.1}
    settings = {"stddev": 0.1} if kind is layers.GaussianNoise else settings
    layer = kind(**settings)
    assert runs_in_place(layer) and is_fused(layer)


def test_an_interpreter_fuses_functions_that_clip():
    assert is_fused(layers.ReLU()) and is_fused(layers.Activation("relu6"))
    assert not is_fused(layers.Activation("tanh")) and not is_fused(layers.LeakyReLU())


def test_an_identity_is_copied_though_keras_writes_no_configuration_of_its_policy():
    layer = layers.Identity(dtype=keras.DTypePolicy("float64"), name="path")
    with pytest.raises(NotImplementedError):
        layer.get_config()
    copy = copy_operation(layer, {"name": "other"})
    assert (copy.name, copy.compute_dtype, copy.trainable) == ("other", "float64", True)
    assert layers.Identity.from_config(copy.get_config()).compute_dtype == "float64"
