"""The answer of `flow` and `narrow` for what has no rule."""

import keras
import numpy as np
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.labels import Flow, State
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.trace import recording_of, trace, trace_recording
from resrep_keras.rules.passing import Passes
from resrep_keras.rules.reading import ReadsAndMakes
from resrep_keras.rules.tried import _find
from resrep_keras.surgery.narrow import can_narrow
from resrep_keras.surgery.remove import remove_channels


class Halve(layers.Layer):
    calls = 0

    def call(self, x):
        Halve.calls += not isinstance(x, keras.KerasTensor)
        return x / 2.0


class Scale(layers.Layer):
    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], name="scale")

    def call(self, x):
        return x * self.scale


def net(*middle, shape=(6,)):
    x = inputs = keras.Input(shape)
    x = layers.Dense(8, name="first")(x)
    for layer in middle:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3, name="last")(x))


def test_what_was_found_answers_narrow():
    graph = trace(net(Halve(name="own")))
    call = graph.calls_by_name["own"]
    assert isinstance(call.found, Passes) and can_narrow(call)
    assert can_narrow(graph.calls_by_name["first"])
    assert graph.calls_by_name["first"].found is None
    slim = remove_channels(net(Halve(name="own")), {"first": np.arange(8) < 3})
    assert slim.get_layer("own").output.shape == (None, 3)


def test_it_is_found_out_once_whatever_passes_the_tracer_makes():
    model = net(Halve(name="own"), layers.Activation("sigmoid"))
    Halve.calls = 0
    trace(model)
    alone = Halve.calls
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="first")(x)
    x = layers.BatchNormalization()(Halve(name="own")(x))  # a constant, which then needs a site
    x = layers.Conv2D(3, 3, padding="same")(layers.ReLU()(x))
    Halve.calls = 0
    graph = trace(keras.Model(inputs, x))
    assert graph.groups[0].prunable and 0 < Halve.calls == alone


def test_nothing_is_tried_where_nothing_could_go():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(3)(Halve()(inputs)))
    Halve.calls = 0
    graph = trace(model)
    assert Halve.calls == 0
    assert [pin.kind for pin in graph.pins if "Halve" in pin.text] == []
    inputs = keras.Input((6,))
    scaled = layers.Dense(3)(Scale(name="scale")(inputs))
    assert not any(pin.layer == "scale" for pin in trace(keras.Model(inputs, scaled)).pins)
    single = net(layers.Dense(1, name="single"), Halve())
    assert trace(single).group("single").pinned_by.kind is PinKind.SINGLE


def test_labels_along_several_axes_pass_where_each_entry_is_by_itself():
    def found(function):
        inputs = keras.Input((3, 4))
        model = keras.Model(inputs, layers.Lambda(function, name="own")(inputs))
        call = trace(model).calls[-1]
        return call, _find(call, ((1, 2),))

    call, everywhere = found(ops.sigmoid)
    labels = np.arange(12).reshape(1, 3, 4)
    call.inputs = (Flow(labels, (None, 3, 4)),)
    flow_out = everywhere.flows(call)
    assert flow_out.labels is labels and (flow_out.state == State.CONSTANT).all()
    assert flow_out.origins == {call.index} and everywhere.narrow(None, None) == ({}, [])
    for axis in (1, 2):
        _, nothing = found(lambda x, axis=axis: ops.flip(x, axis))
        assert f"choosing entries of axis {axis} before and behind" in nothing.text


def test_one_tensor_that_is_given_twice_is_not_tried():
    layer = layers.Lambda(lambda x: x[0] * x[1], name="own")
    x = inputs = keras.Input((6,))
    x = layers.Dense(8, name="first")(x)
    graph = trace_recording(recording_of(keras.Model(inputs, layers.Dense(3)(layer([x, x])))))
    (pin,) = (pin for pin in graph.pins if pin.layer == "own")
    assert "not tried where one tensor is given twice" in pin.text


def test_a_reader_without_weights():
    model = net(layers.Lambda(lambda x: ops.sum(x, -1, keepdims=True), name="own"))
    graph = trace(model)
    assert isinstance(graph.calls_by_name["own"].found, ReadsAndMakes)
    assert graph.group("first").prunable
    assert resrep_keras.explain(model).rows[0].probed == ("own",)
