"""Law 5: keeping everything changes nothing, and removing twice equals removing the union."""

import numpy as np
import pytest

import resrep_keras
from resrep_keras.costs.macs import MacCost
from resrep_keras.surgery.remove import remove_channels
from tests import helpers, zoo


def _groups(graph):
    return [group for group in graph.groups if group.prunable]


@pytest.mark.parametrize("name", zoo.SAMPLE if zoo.ON_TENSORFLOW else zoo.IN_EVERY_RUN)
def test_keep_everything_changes_nothing(name):
    model = zoo.build(name)
    same = remove_channels(model, {})
    assert helpers.difference(model, same) <= 1e-6
    assert resrep_keras.count_params(same) == resrep_keras.count_params(model)


@helpers.each_kind(zoo.SAMPLE)
def test_removing_twice_equals_removing_the_union(name):
    model = zoo.build(name)
    graph = resrep_keras.trace(model)
    both = helpers.random_keep(graph, _groups(graph), seed=3, share=0.6)
    first = both | (np.random.default_rng(4).uniform(size=len(both)) < 0.5)
    union = graph.keep_by_producer(both)
    halfway = graph.keep_by_producer(first)
    rest = {layer: mask[halfway.get(layer, np.ones_like(mask))] for layer, mask in union.items()}
    rest = {layer: mask for layer, mask in rest.items() if not mask.all()}
    once = remove_channels(model, union)
    twice = remove_channels(remove_channels(model, halfway), rest)
    assert helpers.difference(once, twice) <= 1e-4
    assert resrep_keras.count_macs(once) == resrep_keras.count_macs(twice)


@helpers.each_kind(zoo.SAMPLE)
def test_the_order_of_layers_does_not_matter_and_the_cost_is_predicted(name):
    model = zoo.build(name)
    graph = resrep_keras.trace(model)
    kept = helpers.random_keep(graph, _groups(graph), seed=5)
    keep = graph.keep_by_producer(kept)
    forward = remove_channels(model, keep)
    backward = remove_channels(model, dict(reversed(keep.items())))
    assert helpers.difference(forward, backward) == 0
    assert MacCost(graph)(kept) == resrep_keras.count_macs(forward)
