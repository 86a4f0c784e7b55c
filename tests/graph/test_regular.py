"""Channels lie along one axis of each tensor in the end."""

import numpy as np

from resrep_keras.graph.labels import Flow, Labels
from resrep_keras.graph.pins import Pin
from resrep_keras.graph.regular import settled_flow


def spread(labels, *sizes):
    made = labels.fresh(int(np.prod(sizes))).reshape(1, *sizes)
    return Flow(made, (None, *sizes))


def test_channels_along_several_axes_are_coupled_along_all_but_the_longest():
    labels = Labels()
    flow = settled_flow(spread(labels, 3, 2), labels)
    assert flow.wide_axes == [1] and labels.roots().tolist() == [0, 0, 2, 2, 4, 4]


def test_what_other_tensors_have_coupled_is_left_as_it_is():
    labels = Labels()
    flow = spread(labels, 3, 2)
    labels.union(flow.labels, np.broadcast_to(flow.labels[:, :1], flow.labels.shape))
    before = labels.roots().tolist()
    assert settled_flow(flow, labels).wide_axes == [2]
    assert labels.roots().tolist() == before == [0, 1] * 3


def test_all_of_one_channel_lie_along_the_longest_axis():
    labels = Labels()
    flow = spread(labels, 2, 3)
    labels.union(flow.labels, np.zeros_like(flow.labels))
    assert settled_flow(flow, labels).wide_axes == [2]


def test_what_cannot_go_stays_as_it_is():
    labels = Labels()
    flow = spread(labels, 2, 2)
    labels.pin(flow.labels, Pin("layer", "why"))
    assert settled_flow(flow, labels) is flow
    row = spread(labels, 4)
    assert settled_flow(row, labels) is row
