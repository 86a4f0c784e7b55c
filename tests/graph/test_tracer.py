"""A tracer runs the rules until nothing new is learnt, and tells each time what it has found."""

import keras
import numpy as np
from keras import layers

from resrep_keras.graph.labels import State
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.tracer import OUTPUT, Tracer
from tests import zoo


def traced(model, exact=True, frozen=()):
    tracer = Tracer(recording_of(model), exact, State.ZERO, frozenset(frozen), None)
    tracer.run()
    return tracer


def test_producers_are_named_in_the_order_of_their_calls():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, name="hidden")(inputs)
    tracer = traced(keras.Model(inputs, layers.Dense(2, name="top")(hidden)))
    assert list(tracer.producers) == ["hidden", "top"]
    assert [len(labels) for labels in tracer.producers.values()] == [3, 2]
    assert list(tracer.sites) == [("hidden", None), ("top", None)]
    pinned = [tracer.labels.pin_of(int(label)) for label in tracer.producers["top"]]
    assert {pin.layer for pin in pinned} == {OUTPUT}


def test_a_layer_is_needed_behind_which_zeros_become_constants_that_a_border_changes():
    tracer = traced(zoo.build("constant_at_the_border"))
    assert len(tracer.needed) == 1  # found by a first run of the rules, used by the second
    (layer,) = tracer.needed
    labels, axis, diagonal = tracer.sites[layer, None]
    assert diagonal and labels.shape[axis] == labels.size


def test_what_a_product_does_not_need_follows():
    tracer = traced(zoo.build("squeeze_excite"))
    (follower,) = tracer.followers
    assert follower in tracer.producers and (follower, None) not in tracer.sites


def test_what_is_inexact_is_pinned_or_noted():
    inputs = keras.Input((4,))
    normed = layers.LayerNormalization(name="norm")(layers.Dense(3, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="top")(normed))
    for exact in (True, False):
        tracer = traced(model, exact=exact)
        label = int(tracer.producers["hidden"][0])
        assert (tracer.labels.pin_of(label) is None) == (not exact)
        assert [pin.layer for _, pin in tracer.inexact] == ([] if exact else ["norm"])


def test_a_layer_that_is_called_twice_has_one_set_of_labels():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    tracer = traced(keras.Model(inputs, layers.Dense(2)(shared(shared(inputs)))))
    roots = tracer.labels.roots()[tracer.producers["shared"]]
    # What it reads the second time is what it makes, and is what it reads the first time: inputs.
    assert all(tracer.labels.pin_of(int(root)) is not None for root in np.unique(roots))
