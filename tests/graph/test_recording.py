"""A recording by hand: y = Dense(x) twice, then a sum."""

import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.record import record
from resrep_keras.graph.recording import (
    Enter,
    Leave,
    Probe,
    Recording,
    around,
    output_specs,
    replaced,
    specs_told,
    symbolic_tensors,
)
from tests import zoo


@pytest.fixture
def model():
    x = inputs = keras.Input((3,), name="x")
    y = layers.Dense(3, name="first")(x)
    z = layers.Dense(3, name="second")(y)
    return keras.Model(inputs, layers.Add(name="sum")([y, z]), name="net")


def test_it_is_played_in_order_with_the_answers_of_a_function(model):
    played = []

    def add_one(recorded, *args, **kwargs):
        played.append(recorded.name)
        values = keras.tree.flatten(args)
        return sum(values) + 1

    # first: 1 + 1 = 2; second: 2 + 1 = 3; sum: 2 + 3 + 1 = 6.
    assert record(model).run(1, add_one) == 6
    assert played == ["first", "second", "sum"]


def test_played_with_its_own_operations_it_is_the_model():
    model = zoo.build("residual")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")

    def call(recorded, *args, **kwargs):
        return recorded.operation(*args, **kwargs)

    played = record(model).run(x, call)
    np.testing.assert_allclose(
        ops.convert_to_numpy(played), ops.convert_to_numpy(model(x)), rtol=1e-5, atol=1e-6
    )


def test_inputs_and_outputs_keep_their_structure():
    inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((2,), name="b")}
    outputs = {"sum": layers.Add()([inputs["a"], inputs["b"]]), "a": inputs["a"]}
    recording = record(keras.Model(inputs, outputs))
    found = recording.run({"a": 2, "b": 3}, lambda recorded, values: values[0] * values[1])
    assert found == {"sum": 6, "a": 2}


def test_values_are_let_go_of_after_their_last_use(model):
    class Value:
        pass

    made = []

    def call(recorded, *args, **kwargs):
        if recorded.name == "sum":
            assert made[0]() is not None  # 'sum' still reads the first value
        value = Value()
        made.append(weakref.ref(value))
        return value

    result = record(model).run(Value(), call)
    assert [reference() is None for reference in made] == [True, True, False]
    assert made[-1]() is result


def test_inner_calls_come_before_the_call_that_holds_them():
    inputs = keras.Input((4, 3))
    outer = layers.TimeDistributed(layers.Dense(2, name="inside"), name="outer")
    recording = record(keras.Model(inputs, outer(inputs)))
    calls = list(recording.all_calls())
    assert [recorded.name for recorded in calls] == ["inside", "outer"]
    assert [recorded.name for recorded in recording.calls] == ["outer"]
    enter, leave = around(recording.calls[0])
    assert type(enter.operation) is Enter and type(leave.operation) is Leave
    assert (enter.name, leave.name) == ("outer", "outer")
    inner = recording.calls[0].inner
    assert inner.inputs.shape == (None, 3) and leave.args == (inner.outputs,)
    assert leave.outputs is recording.calls[0].outputs


def test_symbolic_tensors_are_found_in_nested_arguments():
    a, b = keras.KerasTensor((1,)), keras.KerasTensor((2,))
    assert symbolic_tensors(([a, 3], "text"), {"other": {"b": b}}) == [a, b]
    assert replaced({id(a): "value"}, a) == "value"
    assert replaced({}, 3) == 3


def test_shapes_of_a_call_are_found_without_calling_the_layer(model):
    first = model.get_layer("first")
    nodes = len(first._inbound_nodes)
    for batch in (None, 7):  # as it was called, and on another shape
        spec = output_specs(first, (keras.KerasTensor((batch, 3)),), {})
        assert (tuple(spec.shape), spec.dtype) == ((batch, 3), "float32")
    assert len(first._inbound_nodes) == nodes


def test_a_probe_stands_for_shapes_only():
    spec = keras.KerasTensor((None, 5))
    inputs = keras.Input((3,))
    assert Probe(spec)(inputs).shape == (None, 5)
    with pytest.raises(NotImplementedError, match="only stands for shapes"):
        Probe(spec).call(inputs)


def test_an_empty_recording_hands_its_inputs_on():
    tensor = keras.KerasTensor((2,))
    assert Recording("nothing", tensor, [tensor], []).run(5, None) == [5]


def test_the_product_with_a_number_is_not_sparse():
    inputs = keras.Input((3,))
    (times,) = keras.Model(inputs, 2.0 * inputs).operations[1:]
    assert (2.0 * inputs).sparse  # as Keras says
    assert not output_specs(times, (2.0, keras.Input((3,))), {}).sparse
    sparse = keras.Input((3,), sparse=True)
    assert output_specs(times, (2.0, sparse), {}).sparse


def test_a_layer_that_says_what_its_call_does_not_take_is_seen():
    class Other(keras.layers.Dense):
        def call(self, inputs, scale=1.0):
            return super().call(inputs) * scale

        def compute_output_spec(self, inputs):
            return inputs

    layer = Other(4)
    layer.build((None, 3))
    assert specs_told(layer, (keras.Input((3,)),), {"scale": 2.0}).shape == (None, 4)


def test_a_batch_that_lies_along_another_axis_stays_one_of_any_size():
    x = keras.Input((4, 3))
    model = keras.Model(x, ops.unstack(ops.transpose(x, (1, 0, 2)), axis=0))
    moved, parts = record(model).calls
    assert moved.outputs.shape == (4, None, 3)
    assert [part.shape for part in parts.outputs] == [(None, 3)] * 4
