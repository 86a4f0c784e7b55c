"""Layers without a rule that are opened where that frees channels."""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.opened import may_be_opened, without_unclear
from resrep_keras.graph.trace import recording_of, trace_recording


class Flipped(layers.Layer):
    def call(self, x):
        return x + ops.flip(x, -1)


class Centred(layers.Layer):
    def call(self, x):
        return x - ops.var(x, -1, keepdims=True)


def net(layer, size=6):
    x = inputs = keras.Input((size, 3))
    x = layers.Dense(8, name="before")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(layer(x)))


def names(graph):
    return [call.name for call in graph.calls]


def test_what_frees_channels_is_opened():
    graph = resrep_keras.trace(net(Flipped(name="own")))
    assert names(graph)[0] == "before" and "own" not in names(graph)
    assert len(graph.group("before").channels) == 4  # each with that of the other end
    assert {call.path for call in graph.calls} == {(), ("own",)}


def test_what_frees_none_stays_one_call_with_its_reason():
    graph = resrep_keras.trace(net(Centred(name="own")))
    assert names(graph) == ["before", "own", "last"]
    assert "Centred has no rule" in str(graph.group("before").reason)


def test_outputs_keep_their_names():
    model = net(layers.Identity())
    model = keras.Model(model.inputs, [Flipped(name="own")(model.outputs[0]), model.outputs[0]])
    opened = without_unclear(trace_recording(recording_of(model)))
    assert opened.calls[-1].name == "own"
    assert [recorded.name for recorded in opened.calls[:2]] == ["before", "identity"]


def test_open_sizes_are_left_alone():
    model = net(Flipped(name="own"), None)
    assert not may_be_opened(model, None) and not may_be_opened(model, (6, 3))
    assert "own" in names(resrep_keras.trace(model, (6, 3)))
    assert may_be_opened(net(Flipped()), (6, 3))


def test_frozen_layers_are_left_alone():
    recording = recording_of(net(Flipped(name="own")))
    assert without_unclear(trace_recording(recording)) is not None
    assert without_unclear(trace_recording(recording, frozen=("own",))) is None


def test_numbers_of_other_layers_are_no_constants():
    x = inputs = keras.Input((6, 8))
    first = layers.Dense(8, name="before", use_bias=False)
    tied = layers.Lambda(
        lambda x: ops.flip(x, -1) @ ops.convert_to_tensor(first.kernel), name="own"
    )
    model = keras.Model(inputs, layers.Dense(2)(tied(first(x))))
    assert without_unclear(trace_recording(recording_of(model))) is None


@pytest.mark.parametrize("raised", [RuntimeError, KeyError])
def test_a_call_that_raises_stays_closed(raised):
    class Raises(Flipped):
        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise raised("no symbols")
            return super().call(x)

        def compute_output_shape(self, input_shape):
            return input_shape

    model = net(layers.Identity())
    assert "own" in names(resrep_keras.trace(net(Raises(name="own"))))
    assert may_be_opened(model, None)
