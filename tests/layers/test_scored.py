"""ScoredCompactor: the state of a search, by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras.layers.scored import DONE, WAITING, ScoredCompactor


@pytest.fixture
def layer():
    layer = ScoredCompactor(seed=3)
    layer.build((None, 4))
    return layer


def test_it_begins_with_all_channels_and_no_scores(layer):
    assert ops.convert_to_numpy(layer.candidates).all()
    assert np.isinf(ops.convert_to_numpy(layer.scores)).all()
    assert int(layer.begun) == WAITING != DONE and not bool(layer.searching())
    x = np.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)


@pytest.mark.parametrize(("candidates", "number"), [([1, 1, 1, 1], 2), ([1, 0, 1, 1], 1)])
def test_half_of_the_search_set_is_drawn(layer, candidates, number):
    candidates = np.array(candidates, bool)
    layer.begin(candidates, 0)
    draws = np.array([ops.convert_to_numpy(layer.draw()) for _ in range(20)])
    assert (draws.sum(axis=1) == number).all()
    assert not draws[:, ~candidates].any() and draws[:, candidates].any(axis=0).all()


def test_damages_are_averaged_over_the_draws_of_a_channel(layer):
    layer.begin(np.ones(4, bool), 7)
    assert bool(layer.searching()) and int(layer.begun) == 7
    for drawn, damage in (([1, 1, 0, 0], 2.0), ([1, 0, 1, 0], 4.0)):
        layer.note(ops.convert_to_tensor(drawn, "float32"), damage)
    assert layer.means().tolist() == [3.0, 2.0, 4.0, np.inf]
    layer.begin(np.array([1, 1, 0, 0], bool), 9)
    assert np.isinf(layer.means()).all()


def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.get_config() == layer.get_config() and copy.seed == 3
