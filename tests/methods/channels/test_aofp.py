"""AOFP: the state machine without a net, damages against their definition, and whole runs."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.layers.scored import DONE, WAITING, ScoredCompactor
from resrep_keras.methods.channels.ablation import Ablation, searches_of
from resrep_keras.methods.channels.aofp import AOFP, next_step
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo
from tests.conditions import training

tensorflow_only = pytest.mark.tensorflow_only


# --- the state machine ----------------------------------------------------------------------------


def mean_damages(each, candidates):
    """Mean damage of each channel over all halves of the search set, where damages add up."""
    members = np.flatnonzero(candidates)
    total, number = np.zeros(len(each)), np.zeros(len(each))
    for half in itertools.combinations(members, len(members) // 2):
        half = list(half)
        total[half] += each[half].sum()
        number[half] += 1
    return np.divide(total, number, out=np.full(len(each), np.inf), where=number > 0)


def search(each, max_damage, rounds):
    """The channels that a layer loses, and the sizes of its search sets on the way."""
    alive = np.ones(len(each), bool)
    candidates, sizes = alive.copy(), []
    for _ in range(rounds):
        sizes.append(int(candidates.sum()))
        kind, chosen = next_step(mean_damages(each, candidates), candidates, max_damage)
        if kind == "move":
            alive[chosen] = False
        candidates = alive.copy() if kind != "halve" else np.isin(np.arange(len(each)), chosen)
    return np.flatnonzero(~alive), sizes


def test_the_channels_of_the_smallest_damages_go():
    each = np.array([5, 1, 8, 2, 7, 3, 6, 4]) / 100
    # Of 8, halves of 4 with a channel of damage d: d + 3 / 7 * (36 - d), in hundredths. The fourth
    # smallest is 4: 4 + 3 / 7 * 32 = 17.7, so that four go at once where 0.18 is allowed.
    gone, sizes = search(each, 0.18, 1)
    assert gone.tolist() == [1, 3, 5, 7]
    assert sizes == [8]


def test_a_smaller_question_is_asked_until_one_channel_is_too_many():
    each = np.array([5, 1, 8, 2, 7, 3, 6, 4]) / 100
    # 8 -> 4 channels of 1, 2, 3, 4: halves of 2 with d: d + (10 - d) / 3: the second smallest,
    # 2, has 4.67. 4 -> 2 channels of 1 and 2: one alone does its own damage, 1.
    gone, sizes = search(each, 0.011, 3)
    assert gone.tolist() == [1]
    assert sizes == [8, 4, 2]
    gone, sizes = search(each, 0.009, 4)
    assert gone.tolist() == []
    assert sizes == [8, 4, 2, 8]


def test_two_of_four_go_where_their_mean_damage_is_allowed():
    each = np.array([5, 1, 8, 2, 7, 3, 6, 4]) / 100
    gone, sizes = search(each, 0.047, 2)
    assert gone.tolist() == [1, 3]
    assert sizes == [8, 4]


@pytest.mark.parametrize("max_damage", [0.0, 0.02, 0.1, 1.0])
def test_more_damage_never_leaves_a_wider_layer(max_damage):
    each = np.arange(1, 9) / 100
    narrower = len(search(each, max_damage, 12)[0])
    assert narrower <= len(search(each, 2 * max_damage + 0.01, 12)[0])
    # Always the smallest ones, whatever the path.
    assert search(each, max_damage, 12)[0].tolist() == list(range(narrower))


def test_a_channel_that_was_never_drawn_counts_as_the_worst():
    means = np.array([0.01, np.inf, 0.02, 0.03])
    kind, chosen = next_step(means, np.ones(4, bool), 0.05)
    assert (kind, chosen.tolist()) == ("move", [0, 2])
    assert next_step(np.full(4, np.inf), np.ones(4, bool), 0.05)[0] == "halve"
    assert next_step(means, np.array([True, False, False, False]), 1.0)[0] == "stay"


# --- what is measured -----------------------------------------------------------------------------


def begun(model, method=None):
    channel_state = ChannelState(model)
    searches = searches_of(channel_state)
    for one in searches:
        one.compactor.begin(one.ids >= 0, 0)
    return channel_state, searches


def conv_chain(normalise=True):
    inputs = x = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="first")(x)
    x = layers.BatchNormalization(name="norm1")(x) if normalise else x
    x = layers.ReLU()(x)
    x = layers.Conv2D(5, 3, padding="same", name="second")(x)
    x = layers.BatchNormalization(name="norm2")(x) if normalise else x
    x = layers.ReLU(name="relu2")(x)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(x)))
    zoo.randomise(model)
    return model


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


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer", ["adam", keras.optimizers.SGD(0.01, momentum=0.9)], ids=["adam", "momentum"]
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_run_meets_its_target_by_moves(optimizer, jit_compile):
    model = training.wrapped(
        type(keras.optimizers.get(optimizer)).from_config(
            keras.optimizers.get(optimizer).get_config()
        ),
        AOFP(0.3, max_damage=10.0, interval=2),
        jit_compile=jit_compile,
    )
    history = training.fit(model, epochs=12)
    slim = resrep_keras.finalize(model, strict=True)
    assert 0.5 < slim.certificate.macs_left <= 0.7
    channels = history.history["channels"]
    assert channels[0] > channels[-1]
    # What is off stays off, whatever the optimizer's momentum.
    off = [np.asarray(k)[..., ~m] for k, m in zip(training.kernels(model), training.masks(model))]
    assert sum(part.size for part in off) and not any(part.any() for part in off)


def test_a_small_damage_is_completed_by_the_mean_damages_and_says_so():
    model = training.wrapped(method=AOFP(0.3, max_damage=0.0, interval=3))
    with pytest.warns(UserWarning, match="max_damage=0.0 left shares of {'macs': 1.0}"):
        training.fit(model, epochs=20)
    assert resrep_keras.finalize(model, strict=True).certificate.macs_left <= 0.7
    searches = searches_of(ChannelState(model))
    scores = [ops.convert_to_numpy(one.compactor.scores) for one in searches]
    assert all(np.isfinite(score).all() for score in scores)
    kept = ChannelState(model).kept()
    lost = max(s[~kept[one.ids]].max(initial=0) for s, one in zip(scores, searches))
    for score, one in zip(scores, searches):
        alive = np.sort(score[kept[one.ids]])
        assert len(alive) == 1 or alive[0] >= lost  # the smallest of all went


def test_without_a_target_the_damage_decides_the_widths():
    found = []
    for damage in (0.0, 0.3, 10.0):
        model = training.wrapped(method=AOFP(None, max_damage=damage, interval=2, min_channels=2))
        training.fit(model, epochs=16)
        found.append(training.masks(model))
    kept = [sum(mask.sum() for mask in masks) for masks in found]
    assert kept[0] == sum(mask.size for mask in found[0])
    assert kept[0] > kept[2]
    assert kept[0] >= kept[1] >= kept[2]
    assert all(mask.sum() == 2 for mask in found[2])


def test_the_last_move_takes_no_more_than_the_target_needs():
    model = training.wrapped(method=AOFP(0.3, max_damage=100.0, interval=2))
    training.fit(model, epochs=10)
    channel_state = ChannelState(model)
    cost, kept = channel_state.cost(), channel_state.kept()
    at_most = 0.7 * cost()
    assert cost(kept) <= at_most
    back = []
    for channel in np.flatnonzero(~kept):
        one_more = kept.copy()
        one_more[channel] = True
        back.append(cost(one_more))
    assert max(back) > at_most


@pytest.mark.parametrize("max_damage", [0.0, 0.3, 10.0])
def test_layers_keep_multiples(max_damage):
    method = AOFP(0.3, max_damage=max_damage, interval=2, channel_multiple=2)
    model = training.wrapped(method=method)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "AOFP's moves")
        training.fit(model, epochs=16)
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.macs_left <= 0.7
    for mask in training.masks(model):
        assert mask.all() or mask.sum() % 2 == 0


def test_a_search_set_too_small_for_a_multiple_is_not_searched():
    """Six channels in multiples of 3: half of them may go at once, and nothing less."""
    wrapped = resrep_keras.wrap(conv_chain(), AOFP(None, max_damage=0.5, channel_multiple=3))
    channel_state, searches = begun(wrapped)
    method = wrapped.method
    for search in searches:
        widths = method.widths(channel_state, search.group.producers)
        (producer,) = search.group.producers
        channels = len(producer.channels)
        assert widths[producer.name] == (*range(3, channels, 3), channels)
        kept = channel_state.kept()
        least = method._smallest_move(search, kept, widths)
        assert least == channels - max((w for w in range(3, channels, 3)), default=-np.inf)


@tensorflow_only
@pytest.mark.parametrize("steps_per_execution", [4])
def test_saved_and_gone_on_with_is_the_same_as_without_a_break(tmp_path, steps_per_execution):
    x, y = training.data()
    arguments = {"batch_size": 16, "verbose": 0, "shuffle": False}

    def start():
        keras.utils.set_random_seed(1)
        return training.wrapped(
            keras.optimizers.SGD(0.05, momentum=0.9),
            AOFP(0.3, max_damage=1.0, interval=2, total_steps=32),
            steps_per_execution=steps_per_execution,
        )

    whole = start()
    whole.fit(x, y, epochs=8, **arguments)
    first = start()
    first.fit(x, y, epochs=3, **arguments)
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    second.fit(x, y, epochs=8, initial_epoch=3, **arguments)
    for one, other in zip(whole.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_the_settings_of_the_paper():
    assert AOFP.paper().max_damage == 0.01
    assert AOFP.paper().interval == 1000


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_damage": -0.1}, "max_damage to be a number of 0 or more"),
        ({"max_damage": float("nan")}, "max_damage"),
        ({"interval": 0}, "interval to be an int of 1 or more"),
        ({"warmup": 0.6}, "warmup to end before the search does; got warmup=0.6"),
        ({"search_end": 1.5}, "search_end to be a number"),
        ({"seed": -1}, "seed"),
        ({"target_reduction": 1.2}, "target_reduction"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, text):
    with pytest.raises(ValueError, match=text):
        AOFP(**settings)


def test_a_run_that_is_too_short_is_refused():
    model = training.wrapped(method=AOFP(0.3))
    with pytest.raises(ValueError, match="search has at least 20 steps; got"):
        training.fit(model, epochs=2)


def test_models_without_anything_to_measure_are_refused():
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(4)(inputs)))
    with pytest.raises(ValueError, match="for ResRep"):
        resrep_keras.wrap(model, AOFP(0.1))


# --- the laws -------------------------------------------------------------------------------------

# All their channels are inside recurrent layers, or applied at each entry of an axis.
REFUSED = ("recurrent", "bidirectional", "time_distributed")
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


# Batch statistics of a few pictures make rounding in 32 bits large; JAX has no float64 by default.
@tensorflow_only
@pytest.mark.parametrize(
    ("name", "policy", "tolerance"),
    [(n, "float32", 2e-3) if n in ONLY_32_BITS else (n, "float64", 1e-6) for n in MEMBERS],
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
