"""Layers without a rule that are opened where that frees channels."""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.opened import may_be_opened, without_unclear
from resrep_keras.graph.pins import PinKind
from resrep_keras.graph.trace import recording_of, told_at_its_sizes, trace_recording


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
    reason = graph.group("before").reason
    assert reason.kind is PinKind.NO_RULE  # exact=False, which allows a variance, is not enough
    assert "Centred has no rule" in str(reason)


class Spread(layers.Layer):
    def call(self, x):
        return x / (1.0 + ops.var(x, -1, keepdims=True))


def test_what_may_go_where_that_changes_outputs_is_told_as_such():
    reason = resrep_keras.trace(net(Spread(name="own"))).group("before").reason
    assert str(reason).startswith("own: its var: Var over channels, which zeros change")
    assert reason.kind is PinKind.INEXACT
    graph = resrep_keras.trace(net(Spread(name="own")), exact=False)
    assert graph.group("before").reason is None


class Responses(layers.Layer):
    """What zeros become counts in a norm over channels, which Keras on JAX makes but cannot run."""

    def call(self, x):
        root = ops.sqrt(ops.sum(x**2, axis=1, keepdims=True) + 1.0)
        return x * root / ops.norm(root, axis=-1, keepdims=True)


class Scaled(layers.Layer):
    """RMS normalisation, whose output may be that of the model."""

    def call(self, x):
        return x * ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-6)


class Sorted(layers.Layer):
    def call(self, x):
        return ops.sort(x, -1)


@pytest.mark.parametrize(
    ("layer", "kind", "words"),
    [
        pytest.param(
            *(
                Responses,
                PinKind.NO_BIAS,
                "own: its norm: removed channels would leave values here",
            ),
            marks=pytest.mark.tensorflow_only,
        ),
        (Sorted, PinKind.NO_RULE, "own: Sorted has no rule"),
    ],
)
def test_a_closed_layer_is_told_by_what_keeps_channels_inside(layer, kind, words):
    reason = resrep_keras.trace(net(layer(name="own"))).group("before").reason
    assert reason.kind is kind and str(reason).startswith(words)


def test_what_is_an_output_behind_a_closed_layer_is_told_as_one():
    inputs = keras.Input((6, 3))
    x = layers.Dense(8, name="before")(inputs)
    x = x + layers.Dense(8)(
        layers.Dense(5, name="hidden", activation="relu")(Scaled(name="own")(x))
    )
    graph = resrep_keras.trace(keras.Model(inputs, Scaled()(x)))
    assert graph.group("before").reason.kind is PinKind.OUTPUT
    assert graph.group("hidden").reason is None


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


@pytest.mark.tensorflow_only  # see Responses
def test_layers_that_stay_closed_at_open_sizes_are_told_by_their_inside_at_given_ones():
    graph = resrep_keras.trace(net(Responses(name="own"), None), (6, 3))
    assert graph.group("before").reason.kind is PinKind.NO_RULE
    told = told_at_its_sizes(graph)
    assert str(told.group("before").reason).startswith("own: its norm: removed channels")
    assert told.calls is graph.calls
    open_one = resrep_keras.trace(net(Responses(), None))
    assert told_at_its_sizes(open_one) is open_one


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
