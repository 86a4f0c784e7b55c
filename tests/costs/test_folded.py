"""Keep arrays of a wrapped model, in the model without compactors."""

import numpy as np
import pytest

import resrep_keras
from resrep_keras.costs.folded import SlimCost
from resrep_keras.costs.macs import MacCost
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo


@pytest.mark.parametrize("name", ["chain", "residual", "squeeze_excite", "concatenate"])
def test_a_keep_array_means_the_same_layers(name):
    state = ChannelState(resrep_keras.wrap(zoo.build(name), resrep_keras.ResRep(0.01)))
    kept = helpers.random_keep(state.graph, state.groups, seed=1)
    folded = state.folded
    masks = state.graph.keep_by_producer(kept)
    translated = folded.graph.keep_by_producer(folded.keep(kept))
    assert masks.keys() == translated.keys()
    for layer, mask in masks.items():
        np.testing.assert_array_equal(mask, translated[layer])
    cost = SlimCost(folded, MacCost(folded.graph))
    assert cost(kept) == MacCost(folded.graph)(folded.keep(kept)) < cost()
    assert cost.unit == MacCost(folded.graph).unit


def test_without_a_keep_array_all_stay():
    state = ChannelState(resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(0.01)))
    assert state.folded.keep().all()
    assert len(state.folded.keep()) == state.folded.graph.num_channels


def test_the_folded_model_has_no_compactors_and_the_same_outputs():
    model = resrep_keras.wrap(zoo.build("residual"), resrep_keras.ResRep(0.01))
    folded = ChannelState(model).folded
    assert not helpers.compactors(folded.model)
    assert helpers.difference(model, folded.model) <= 1e-5
