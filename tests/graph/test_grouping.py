"""What a tracer has found becomes groups: whose channels meet, where compactors stand, pins."""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.grouping import channel_graph
from resrep_keras.graph.labels import State
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.tracer import Tracer


def graph_of(*outputs):
    recording = recording_of(keras.Model(INPUTS, list(outputs)))
    tracer = Tracer(recording, True, State.ZERO, frozenset(), None)
    tracer.run()
    return channel_graph(tracer)


INPUTS = keras.Input((4,), name="grouping_inputs")


def dense(units, name, x=INPUTS):
    return layers.Dense(units, name=name)(x)


def test_producers_that_meet_in_a_sum_are_one_group_in_the_order_of_their_calls():
    other = dense(5, "other")
    first, last = dense(3, "first", other), dense(3, "last", other)
    graph = graph_of(dense(2, "top", first + last))
    assert [group.name for group in graph.groups] == ["other", "first", "top"]
    assert [p.layer for p in graph.groups[1].producers] == ["first", "last"]
    one, two = (p.channels for p in graph.groups[1].producers)
    np.testing.assert_array_equal(one, two)
    assert [group.size for group in graph.groups] == [5, 3, 2]
    assert graph.num_channels == 5 + 3 + 2


def test_a_chain_of_sums_joins_groups_that_were_apart():
    a, b, c = (dense(3, name) for name in "abc")
    graph = graph_of(dense(2, "top", a + c), dense(2, "side", a + b))
    assert [p.layer for p in graph.groups[0].producers] == ["a", "b", "c"]


def test_sites_stand_with_the_group_whose_channels_pass_them():
    hidden = layers.Activation("relu", name="relu")(dense(3, "hidden"))
    graph = graph_of(dense(2, "top", hidden))
    (site,) = graph.groups[0].sites
    assert (site.layer, site.axis, site.diagonal, site.activates) == ("hidden", 1, False, True)
    np.testing.assert_array_equal(site.channels, graph.groups[0].channels)


def test_each_channel_has_its_reason_and_a_group_one_where_all_are_pinned():
    hidden = dense(4, "hidden")
    graph = graph_of(dense(2, "top", hidden), hidden[:, :1])
    hidden, top = graph.groups
    assert hidden.pinned.tolist() == [True, False, False, False] and hidden.reason is None
    assert [reason is None for reason in hidden.reasons] == [False, True, True, True]
    assert top.pinned.all() and top.reason.kind is PinKind.OUTPUT


def test_calls_are_let_go_of():
    graph = graph_of(dense(2, "top", dense(3, "hidden")))
    assert all(vars(call)["_tracer"] is None for call in graph.calls)


def test_a_model_that_makes_no_channels_has_no_groups():
    graph = graph_of(layers.Activation("relu")(INPUTS))
    assert graph.groups == () and graph.num_channels == 0
