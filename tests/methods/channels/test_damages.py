"""AOFP's state machine without a net, and what each channel does by itself."""

import itertools

import numpy as np
import pytest

from resrep_keras.methods.channels.damages import next_step, own_damages, without_chance

EACH = np.array([5, 1, 8, 2, 7, 3, 6, 4]) / 100


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


# --- the next step --------------------------------------------------------------------------------


def test_the_channels_of_the_smallest_damages_go():
    # Of 8, halves of 4 with a channel of damage d: d + 3 / 7 * (36 - d), in hundredths. The fourth
    # smallest is 4: 4 + 3 / 7 * 32 = 17.7, so that four go at once where 0.18 is allowed.
    gone, sizes = search(EACH, 0.18, 1)
    assert gone.tolist() == [1, 3, 5, 7]
    assert sizes == [8]


def test_a_smaller_question_is_asked_until_one_channel_is_too_many():
    # 8 -> 4 channels of 1, 2, 3, 4: halves of 2 with d: d + (10 - d) / 3: the second smallest,
    # 2, has 4.67. 4 -> 2 channels of 1 and 2: one alone does its own damage, 1.
    gone, sizes = search(EACH, 0.011, 3)
    assert gone.tolist() == [1]
    assert sizes == [8, 4, 2]
    gone, sizes = search(EACH, 0.009, 4)
    assert gone.tolist() == []
    assert sizes == [8, 4, 2, 8]


def test_two_of_four_go_where_their_mean_damage_is_allowed():
    gone, sizes = search(EACH, 0.047, 2)
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


# --- what each channel does -----------------------------------------------------------------------


@pytest.mark.parametrize("left_out", [(), (0,), (2, 5, 7), (0, 1, 2, 3, 4), range(6)])
def test_own_damages_are_found_from_those_of_halves(left_out):
    """Where damages add up, exactly, for search sets of 2 to 8 channels, odd and even."""
    candidates = ~np.isin(np.arange(8), list(left_out))
    found = own_damages(mean_damages(EACH, candidates), candidates)
    np.testing.assert_allclose(found, np.where(candidates, EACH, np.inf), rtol=1e-9)


def test_own_damages_by_hand():
    """Halves of 2 of 4 channels, T = 3, 4, 4, 5: their sum is S = 4 * 4 / 2 = 8, and
    T = d + (8 - d) / 3, so that d = (T - 8 / 3) * 3 / 2 = 0.5, 2, 2, 3.5."""
    found = own_damages(np.array([3.0, 4, 4, 5]), np.ones(4, bool))
    np.testing.assert_allclose(found, [0.5, 2, 2, 3.5])


def test_of_a_layer_that_does_more_in_all_each_channel_does_more():
    """Halves of a wide layer do more than those of a narrow one, and its channels less each."""
    wide, narrow = np.full(16, 0.02), np.full(2, 0.1)
    halves = [mean_damages(each, np.ones(len(each), bool)) for each in (wide, narrow)]
    assert halves[0].min() > halves[1].max()  # 8 * 0.02 against 0.1
    own = [own_damages(means, np.ones(len(means), bool)) for means in halves]
    assert own[0].max() < own[1].min()


def test_what_was_never_drawn_is_unknown():
    means = np.array([3.0, np.inf, 5, 4])
    found = own_damages(means, np.ones(4, bool))
    assert np.isinf(found).tolist() == [False, True, False, False]
    assert np.isinf(own_damages(np.full(3, np.inf), np.ones(3, bool))).all()
    assert np.isinf(own_damages(np.array([np.inf]), np.ones(1, bool))).all()


def test_chance_makes_nothing_negative():
    """-1, 3 and 4 have the mean 2, to which each goes by a third of its distance."""
    np.testing.assert_allclose(
        without_chance(np.array([-1.0, 3, np.inf, 4])), [0, 2 + 2 / 3, np.inf, 2 + 4 / 3]
    )
    plain = np.array([1.0, 0.0, np.inf])
    np.testing.assert_array_equal(without_chance(plain), plain)
    np.testing.assert_array_equal(without_chance(np.array([-3.0, 1.0])), [0, 0])
    assert np.isinf(without_chance(np.full(2, np.inf))).all()
