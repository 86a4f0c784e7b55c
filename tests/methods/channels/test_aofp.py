"""AOFP: whole runs."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.channels.ablation import searches_of
from resrep_keras.methods.channels.aofp import AOFP
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.damages import without_chance
from resrep_keras.methods.channels.scores import guarded
from tests.conditions import training
from tests.methods.channels.searches import begun, conv_chain
from tests.sampling import sample, sample_pairs

tensorflow_only = pytest.mark.tensorflow_only


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "jit_compile"),
    sample_pairs(["adam", keras.optimizers.SGD(0.01, momentum=0.9)], [False, True]),
)
def test_a_run_meets_its_target_by_moves(optimizer, jit_compile):
    model = training.wrapped(
        type(keras.optimizers.get(optimizer)).from_config(
            keras.optimizers.get(optimizer).get_config()
        ),
        AOFP(0.3, max_damage=10.0, interval=2),
        jit_compile=jit_compile,
    )
    all_channels = model.method.logs(model)["channels"]
    history = training.fit(model, epochs=12)
    slim = resrep_keras.finalize(model, strict=True)
    assert 0.5 < slim.certificate.macs_left <= 0.7
    channels = history.history["channels"]
    assert all_channels > channels[-1]
    # What is off stays off, whatever the optimizer's momentum.
    off = [np.asarray(k)[..., ~m] for k, m in zip(training.kernels(model), training.masks(model))]
    assert sum(part.size for part in off) and not any(part.any() for part in off)


def test_a_small_damage_is_completed_by_what_channels_do_and_says_so():
    model = training.wrapped(method=AOFP(0.3, max_damage=0.0, interval=3))
    with pytest.warns(UserWarning, match="max_damage=0.0 left shares of {'macs': 1.0}"):
        training.fit(model, epochs=20)
    assert resrep_keras.finalize(model, strict=True).certificate.macs_left <= 0.7
    channel_state = ChannelState(model)
    kept, searches = channel_state.kept(), searches_of(channel_state)
    scores = np.full(len(kept), np.inf)
    for one in searches:
        own = ops.convert_to_numpy(one.compactor.scores)
        assert np.isfinite(own).all()
        scores[one.ids] = without_chance(own)
    worth = guarded(scores, [one.group for one in searches])
    lost = max(worth[one.ids][~kept[one.ids]].max(initial=0) for one in searches)
    for one in searches:
        alive = np.sort(worth[one.ids][kept[one.ids]])
        assert len(alive) == 1 or alive[0] >= lost  # the smallest of all went


def test_no_layer_collapses_while_others_have_channels():
    """Halves of the second layer do the least, each of its channels as much as in the first."""
    method = AOFP(0.5)
    model = resrep_keras.wrap(conv_chain(normalise=False), method)
    channel_state, (first, second) = begun(model, method)
    # In the mean over halves: 0.4 of 4 channels, 2 of which go, and 0.39 of 5.
    for search, means in ((first, [0.4] * 4), (second, [0.39] * 5)):
        search.compactor.damage.assign(np.array(means, "float32"))
        search.compactor.draws.assign(np.ones(len(means), "float32"))
    with pytest.warns(UserWarning, match="AOFP's moves"):
        method._complete(channel_state, method.limits(channel_state))
    kept = channel_state.kept()
    left = [int(kept[one.ids].sum()) for one in (first, second)]
    assert min(left) >= 2


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


@pytest.mark.parametrize("max_damage", sample([0.0, 0.3, 10.0], first=1))
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
            AOFP(0.3, max_damage=1.0, interval=2, search_end=0.5, total_steps=32),
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
    # Of 4 epochs of 4 steps: int(0.3 * 16) - int(0.05 * 16) = 4 - 0 steps of search.
    with pytest.raises(ValueError, match="at least 12 steps, two half-rounds; got 4 of 16"):
        training.fit(model, epochs=4)


@pytest.mark.parametrize(
    ("steps", "interval"),
    [(48, 6), (60, 7), (80, 10), (384, 10), (4000, 25)],  # of the search 12, 15, 20, 96, 1000
)
def test_half_rounds_fit_into_the_search(steps, interval):
    method = AOFP(0.3, warmup=0.0 if steps > 60 else 0.05, search_end=0.25 if steps > 60 else 0.3)
    plan = method.plan(0, steps, 4)
    rounds = [step for step in plan.steps[:-1] if (step - plan.steps[0]) % interval == 0]
    np.testing.assert_array_equal(np.diff(rounds), interval)
    assert plan.steps[0] + interval in plan.steps and method._interval(*_ends(plan)) == interval


def _ends(plan):
    return plan.steps[0], plan.steps[-1]


def test_models_without_anything_to_measure_are_refused():
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, layers.Dense(2)(layers.LSTM(4)(inputs)))
    with pytest.raises(ValueError, match="for ResRep"):
        resrep_keras.wrap(model, AOFP(0.1))


def test_of_units_that_are_one_channel_one_is_searched():
    inputs = keras.Input((5,))
    x = layers.Reshape((4, 3))(layers.Dense(12, activation="relu")(inputs))
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(4, 1, activation="relu")(x))
    wrapped = resrep_keras.wrap(keras.Model(inputs, layers.Dense(2)(x)), AOFP(0.3))
    channel_state, searches = begun(wrapped)
    alive = wrapped.method._alive(searches[0], channel_state.kept())
    assert searches[0].ids.tolist() == [0, 1, 2] * 4
    assert np.flatnonzero(alive).tolist() == [9, 10, 11]
