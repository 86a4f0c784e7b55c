"""Hashes: spread evenly, the same wherever and however they are computed."""

import keras
import numpy as np
from keras import ops

from resrep_keras.common.hashed import drawn_scores, random_scores


def test_random_scores_are_spread_evenly_and_differ_by_step_and_seed():
    def draw(step, seed):
        return ops.convert_to_numpy(random_scores(20_000, step, seed))

    first = draw(7, 0)
    parts = np.histogram(first, 10, (0, 2**24))[0]
    assert abs(parts - 2000).max() < 5 * np.sqrt(2000)
    assert len(set(first)) > 19_900  # of 2 ** 24 numbers, 12 pairs are equal by chance
    for other in (draw(8, 0), draw(7, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03


def test_the_numbers_are_those_of_the_formula():
    """`lowbias32` in Python's own integers: no backend, and no compiler, has another answer."""

    def mixed(x):
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    key = mixed(7 + 3)
    expected = [mixed(position ^ key) >> 8 for position in range(5)]
    assert ops.convert_to_numpy(random_scores(5, 7, 3)).tolist() == expected

    generator = keras.random.SeedGenerator(11)
    for count in range(3):
        key = mixed(count + mixed(11))
        expected = [mixed(position ^ key) >> 8 for position in range(5)]
        assert ops.convert_to_numpy(drawn_scores(5, generator)).tolist() == expected
