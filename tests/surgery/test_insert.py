"""Compactors are put behind sites, and found again."""

import keras
from keras import layers

from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.layers.compactor import Compactor
from resrep_keras.surgery.insert import compactors_by_site, insert_compactors


def test_a_compactor_stands_behind_its_site_and_has_the_activation():
    x = inputs = keras.Input((3,))
    x = layers.Dense(4, name="first", activation="relu")(x)
    graph = trace(keras.Model(inputs, layers.Dense(1, name="last")(x)))
    sites = graph.group("first").sites
    copy = insert_compactors(graph, sites, diagonal={"first"})
    found = compactors_by_site(recording_of(copy))
    assert list(found) == ["first"]
    compactor = found["first"]
    assert isinstance(compactor, Compactor) and compactor.name == "first_compactor"
    assert compactor.diagonal and compactor.activation is keras.activations.relu
    assert copy.get_layer("first").activation is keras.activations.linear


def test_gates_are_named_by_what_they_scale():
    x = inputs = keras.Input((5, 3))
    x = layers.LSTM(4, name="memory")(x)
    graph = trace(keras.Model(inputs, layers.Dense(1)(x)))
    sites = [site for site in graph.group("memory").sites if site.inside]
    copy = insert_compactors(graph, sites, diagonal=set())
    assert list(compactors_by_site(recording_of(copy))) == ["memory.units"]
