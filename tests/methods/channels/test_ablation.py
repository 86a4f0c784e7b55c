"""Damages against their definition; measuring them changes nothing that training computes."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.layers.scored import DONE, WAITING, ScoredCompactor
from resrep_keras.methods.channels.ablation import Ablation
from resrep_keras.methods.channels.aofp import AOFP
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo
from tests.methods.channels.searches import begun, conv_chain

tensorflow_only = pytest.mark.tensorflow_only


def test_damage_is_its_definition():
    model = conv_chain(normalise=False)
    wrapped = resrep_keras.wrap(model, AOFP(0.3))
    _, searches = begun(wrapped)
    assert [s.group.name for s in searches] == ["first", "second"]
    x = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype("float32")
    wrapped(x, training=True)

    layer = searches[0].compactor
    drawn = ops.convert_to_numpy(layer.draws)
    assert drawn.sum() == 2
    head = keras.Model(model.input, model.get_layer("second").input)
    read = ops.convert_to_numpy(head(x))
    y, cut = (
        np.maximum(ops.convert_to_numpy(model.get_layer("second")(r)), 0)
        for r in (read, read * (1 - drawn))
    )
    expected = ((y - cut) ** 2).sum() / (y**2).sum()
    np.testing.assert_allclose(ops.convert_to_numpy(layer.damage), expected * drawn, rtol=1e-5)


def test_flattened_channels_are_ablated_at_every_position():
    wrapped = resrep_keras.wrap(conv_chain(normalise=False), AOFP(0.3))
    _, searches = begun(wrapped)
    (reader,) = searches[1].readers
    assert reader.name == "out"
    # Keras flattens height, width, channel.
    np.testing.assert_array_equal(reader.places, np.tile(np.arange(5), 16))


def test_the_ablated_path_normalises_by_its_own_batch_and_leaves_the_averages_alone():
    model = conv_chain()
    wrapped = resrep_keras.wrap(model, AOFP(0.3))
    plain = resrep_keras.wrap(model, resrep_keras.MagnitudePruning(0.3))
    _, searches = begun(wrapped)
    x = np.random.default_rng(0).normal(3, 2, size=(7, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(wrapped(x, training=True)),
        ops.convert_to_numpy(plain(x, training=True)),
        rtol=1e-5,
        atol=1e-5,
    )
    for name in ("norm1", "norm2"):
        for mine, other in zip(wrapped.get_layer(name).weights, plain.get_layer(name).weights):
            np.testing.assert_allclose(mine, other, rtol=1e-6)

    # Nothing is damaged where nothing is ablated: both paths have the same statistics.
    for one in searches:
        one.compactor.begin(np.arange(len(one.ids)) == 0, 0)  # half of one channel is none
    wrapped(x, training=True)
    for one in searches:
        assert not ops.convert_to_numpy(one.compactor.draws).any()
    empty = Ablation(wrapped, ChannelState(wrapped))
    reader = searches[0].readers[0]
    second, norm = wrapped.get_layer("second"), wrapped.get_layer("norm2")
    compactor = wrapped.get_layer(reader.chain[2])
    read = ops.convert_to_tensor(np.random.default_rng(1).normal(size=(3, 4, 4, 4)), "float32")
    y = ops.relu(compactor(norm(second(read), training=True)))
    squares = empty._measure(reader, ops.zeros((4,)), ((read,), {}), y)
    assert float(squares[0]) <= 1e-8 * float(squares[1])


def test_nothing_is_measured_in_inference_nor_before_and_after_the_search():
    wrapped = resrep_keras.wrap(zoo.build("residual"), AOFP(0.3))
    _, searches = begun(wrapped)
    x = np.zeros((2, 8, 8, 3), "float32")
    wrapped(x, training=False)
    for state in (WAITING, DONE):
        for one in searches:
            one.compactor.begun.assign(state)
        wrapped(x, training=True)
    assert not any(ops.convert_to_numpy(one.compactor.draws).any() for one in searches)


def test_each_layer_draws_halves_of_its_own():
    wrapped = resrep_keras.wrap(zoo.build("residual"), AOFP(0.3))
    layer = helpers.compactors(wrapped)[0]
    assert isinstance(layer, ScoredCompactor)
    draws = np.stack([ops.convert_to_numpy(layer.draw()) for _ in range(200)])
    channels = draws.shape[1]
    assert (draws.sum(axis=1) == channels // 2).all()
    # Each channel is in half of the draws: 100, four standard deviations of sqrt(200 / 4).
    assert (abs(draws.sum(axis=0) - 100) < 4 * 50**0.5).all()
    assert len({one.seed for one in helpers.compactors(wrapped)}) == len(
        helpers.compactors(wrapped)
    )


@tensorflow_only
def test_the_score_is_that_of_all_halves():
    """Against the exhaustive mean over all 70 halves of 8 channels (a Banzhaf value)."""
    import tensorflow as tf

    inputs = x = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.Conv2D(6, 3, name="reader")(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    zoo.randomise(model, seed=3)
    wrapped = resrep_keras.wrap(model, AOFP(0.2))
    _, searches = begun(wrapped)
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 2)).astype("float32")
    step = tf.function(lambda: wrapped(x, training=True))
    for _ in range(2000):
        step()
    read = ops.convert_to_numpy(keras.Model(model.input, model.get_layer("reader").input)(x))
    kernel = ops.convert_to_numpy(model.get_layer("reader").kernel)

    def out(values):
        return ops.convert_to_numpy(ops.conv(values, kernel, padding="valid"))

    whole = out(read)
    oracle, number = np.zeros(8), np.zeros(8)
    for half in itertools.combinations(range(8), 4):
        mask = np.ones(8, "float32")
        mask[list(half)] = 0
        damage = ((whole - out(read * mask)) ** 2).sum() / (whole**2).sum()
        oracle[list(half)] += damage
        number[list(half)] += 1
    assert number.tolist() == [35] * 8
    ranks = [np.argsort(np.argsort(v)) for v in (oracle / number, searches[0].compactor.means())]
    assert np.corrcoef(*ranks)[0, 1] > 0.95


# --- the laws -------------------------------------------------------------------------------------

# All their channels are inside recurrent layers, or applied at each entry of an axis.
REFUSED = ("recurrent", "bidirectional", "time_distributed", "convolutional_lstm")
MEMBERS = [name for name in zoo.ZOO if name not in REFUSED]
# TensorFlow has no 64-bit kernel for one of their layers.
ONLY_32_BITS = ("three_dimensions", "applications_layers", "channels_first")
if keras.backend.backend() != "tensorflow":  # where each new shape is compiled anew
    MEMBERS = ["residual", "mobilenet_block"]


def draw_alike(first, second):
    """Let layers of the same name in two models draw the same random numbers."""
    for layer in first.layers:
        generator = getattr(layer, "seed_generator", None)
        if generator is not None and not isinstance(layer, ScoredCompactor):
            second.get_layer(layer.name).seed_generator.state.assign(generator.state)


@pytest.mark.filterwarnings("ignore:AOFP keeps all channels whose damage it cannot measure")
# Batch statistics of a few pictures make rounding in 32 bits large; JAX has no float64 by default.
@tensorflow_only
@pytest.mark.parametrize(
    ("name", "policy", "tolerance"),
    [
        pytest.param(
            n,
            *(("float32", 2e-3) if n in ONLY_32_BITS else ("float64", 1e-6)),
            marks=() if n in zoo.KINDS[::4] else pytest.mark.slow,
        )
        for n in MEMBERS
    ],
    indirect=["policy"],
)
def test_measuring_changes_nothing_that_training_computes(name, policy, tolerance):
    dense = zoo.build(name, 1)
    wrapped = resrep_keras.wrap(dense, AOFP(0.05))
    plain = resrep_keras.wrap(dense, resrep_keras.MagnitudePruning(0.05))
    _, searches = begun(wrapped)
    draw_alike(wrapped, plain)
    inputs = helpers.example_inputs(wrapped, 4)
    outputs = []
    for model in (wrapped, plain):
        keras.utils.set_random_seed(0)  # for layers that draw from Keras's own generator
        outputs.append(keras.tree.flatten(model(inputs, training=True)))
    for one, other in zip(*outputs):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    assert all(ops.convert_to_numpy(one.compactor.draws).any() for one in searches)
    assert all(np.isfinite(ops.convert_to_numpy(one.compactor.damage)).all() for one in searches)
