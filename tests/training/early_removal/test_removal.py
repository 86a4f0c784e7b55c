"""Removal while a model trains: dead channels leave, and nothing else changes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras import ResRep
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.training.early_removal.removal import remove_early
from tests import helpers, zoo
from tests.sampling import sample_pairs
from tests.training.early_removal.models import compiled, steps, train, with_dead_channels

METHODS = [
    ResRep(0.1, coupled=True, compactor="full", slim_every=1),
    ResRep(0.1, coupled=True, slim_every=1),
]
EVERY_KIND = (
    "mobilenet_block squeeze_excite shared_layer convolutions recurrent time_distributed"
).split()
if keras.backend.backend() != "tensorflow":  # where each new shape is compiled anew
    METHODS, EVERY_KIND = METHODS[:1], ["residual", "recurrent", "time_distributed"]


def check_exact(name, method, last):
    model = resrep_keras.wrap(zoo.build(name, 1), method)
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    helpers.scramble(model, 1)
    channel_state, dead = with_dead_channels(model, 1)
    before, macs = helpers.outputs_of(model), channel_state.cost()(~dead)
    difference, done, _ = remove_early(
        model, channel_state, dead, last, helpers.example_inputs(model, 8)
    )
    assert done and difference <= 1e-5
    for a, b in zip(before, helpers.outputs_of(model)):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()
    assert ChannelState(model).cost()() == macs
    assert bool(helpers.compactors(model)) != last
    slim = resrep_keras.finalize(model)
    assert slim.certificate.max_relative <= 1e-5
    assert slim.certificate.macs_dense == channel_state.cost()()
    assert slim.certificate.macs_slim == macs == resrep_keras.count_macs(slim)


@pytest.mark.parametrize("name, last", sample_pairs(EVERY_KIND, [False, True]))
@pytest.mark.parametrize("method", METHODS, ids=helpers.method_id)
@pytest.mark.filterwarnings("ignore:The target is not met")
def test_removal_changes_no_output(name, method, last):
    check_exact(name, method, last)


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True], ids=["compactors", "plain"])
@pytest.mark.parametrize("method", METHODS, ids=helpers.method_id)
@pytest.mark.parametrize("name", sorted(set(zoo.ZOO) - set(EVERY_KIND)))
@pytest.mark.filterwarnings("ignore:The target is not met")
def test_removal_changes_no_output_of_the_rest_of_the_zoo(name, method, last):
    check_exact(name, method, last)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("chain", "sgd"),
        ("chain", "adam"),
        pytest.param("residual", "sgd", marks=pytest.mark.slow),
        pytest.param("residual", "adam", marks=pytest.mark.slow),
    ],
)
def test_training_goes_on_as_without_the_removal(name, optimizer):
    """Where compactors mix nothing, channels that are gone change no step of the others."""
    make = {"sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), "adam": "adam"}
    models = []
    for early in (False, True):
        made = make[optimizer]() if callable(make[optimizer]) else make[optimizer]
        model = compiled(name, made, compactor="diagonal")
        steps(model, 3, seed=1)
        channel_state, dead = with_dead_channels(model)
        for layer in helpers.compactors(model):  # dead columns stay so, whatever their velocity
            gone = ~np.array(layer.keep_mask)
            find_wrapper(model.optimizer).forget(layer.kernel, 1e-3 * gone)
        if early:
            assert remove_early(model, channel_state, dead, last=False)[1]
        steps(model, 6, seed=2)
        model.method = None  # any masks, whatever the target
        models.append(resrep_keras.finalize(model))
    whole, slim = models
    assert len(whole.weights) == len(slim.weights)
    for a, b in zip(whole.weights, slim.weights):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=2e-4, atol=2e-6, err_msg=a.path)


@pytest.mark.filterwarnings("ignore:The target is not met")
def test_removal_waits_until_the_moving_averages_are_those_of_the_batches():
    """Removal keeps what inference computes; training sees batch statistics."""
    model = resrep_keras.wrap(zoo.build("chain", 2), ResRep(0.1, compactor="full", slim_every=1))
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    helpers.scramble(model, 1)
    channel_state, dead = with_dead_channels(model, 1)
    x = helpers.example_inputs(model, 64)
    before = [ops.convert_to_numpy(weight) for weight in model.weights]
    assert remove_early(model, channel_state, dead, False, x, tolerance=0.05) == (None, False, ())
    for weight, value in zip(model.weights, before):
        np.testing.assert_array_equal(weight, value)

    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)
    difference, done, _ = remove_early(model, channel_state, dead, False, x, tolerance=0.05)
    assert done and difference <= 1e-5


def test_a_share_is_one_of_the_dense_width():
    model = compiled("chain", target_reduction=0.3, min_share=0.5)
    train(model, 8)
    widths = model.baseline.removal.widths
    for group in resrep_keras.trace(resrep_keras.finalize(model)).groups:
        for producer in group.producers:
            if producer.name in widths:
                assert len(producer.channels) >= 0.5 * widths[producer.name]
