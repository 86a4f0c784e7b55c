"""What is written on a recording: every call, in order, with what is nested written out."""

import keras
import pytest
from keras import layers, ops

from resrep_keras.graph.record import inner_layer, is_transparent, record
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.gradients.pruner import GradientPruner
from tests import zoo


def names(recording):
    return [recorded.name for recorded in recording.all_calls()]


def test_a_functional_model_is_read_in_order_and_left_alone():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(2, 3, name="conv")(inputs)
    x = ops.relu(x)
    model = keras.Model(inputs, layers.Flatten(name="flat")(x))
    before = [len(operation._inbound_nodes) for operation in model.operations]
    recording = record(model)
    assert len(recording.calls) == 3
    assert [recorded.operation for recorded in recording.calls] == model.operations[1:]
    assert [len(operation._inbound_nodes) for operation in model.operations] == before


def test_nested_models_are_written_out_with_their_path():
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="dense")], name="inner")
    outer = keras.Sequential([keras.Input((3,)), inner], name="outer")
    recording = record(keras.Model(inputs, layers.ReLU(name="top")(outer(inputs))))
    assert [(recorded.name, recorded.path) for recorded in recording.calls] == [
        ("dense", ("outer", "inner")),
        ("top", ()),
    ]


def test_of_two_layers_with_one_name_that_of_the_inner_model_takes_the_models_name():
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="dense")], name="inner")
    model = keras.Model(inputs, inner(layers.Dense(3, name="dense")(inputs)))
    assert names(record(model)) == ["dense", "inner_dense", "inner"]  # the last for the output


def test_a_layer_that_is_called_twice_has_one_name():
    a, b = keras.Input((3,)), keras.Input((3,))
    shared = layers.Dense(3, name="shared")
    model = keras.Model([a, b], layers.Add(name="sum")([shared(a), shared(b)]))
    assert names(record(model)) == ["shared", "shared", "sum"]


def test_a_layer_made_of_layers_is_opened_unless_it_is_known():
    @keras.saving.register_keras_serializable("test_record")
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first, self.second = layers.Dense(4, name="first"), layers.ReLU(name="second")

        def call(self, inputs):
            return self.second(self.first(inputs))

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Block(name="block")(inputs))
    assert names(record(model)) == ["first", "second", "block"]  # the last for the output
    assert names(record(model, is_known=lambda operation: True)) == ["block"]


def test_a_subclassed_model_is_written_out():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.top = layers.Dense(4, name="first"), layers.Dense(2, name="top")

        def call(self, inputs):
            return self.top(ops.relu(self.first(inputs)))

    model = Net()
    model(ops.ones((1, 3)))
    first, _, top = record(model).calls
    assert (first.operation, top.operation) == (model.first, model.top)


def test_the_layer_inside_a_time_distributed_one_has_a_recording_of_its_own():
    inputs = keras.Input((5, 4, 3))
    outer = layers.TimeDistributed(layers.Conv1D(2, 1, name="inside"), name="outer")
    (recorded,) = record(keras.Model(inputs, outer(inputs))).calls
    assert recorded.operation is outer and [s.name for s in recorded.inner.calls] == ["inside"]
    assert recorded.inner.inputs.shape == (None, 4, 3)  # axis 1 is taken away
    assert inner_layer(outer) is outer.layer and inner_layer(outer.layer) is None


def test_a_time_distributed_layer_with_a_call_of_its_own_stays_closed():
    class Shifted(layers.TimeDistributed):
        def call(self, inputs, training=None, mask=None):
            return super().call(inputs, training, mask) + 1.0

    assert inner_layer(Shifted(layers.Dense(2))) is None


@pytest.mark.parametrize("whole", [False, True])
def test_what_matters_in_training_only_is_left_out_of_what_is_not_whole(whole):
    inputs = keras.Input((4, 4, 3))
    pruner = GradientPruner(0.9, name="pruner")
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(pruner(inputs)))
    assert is_transparent(pruner) and not is_transparent(model.get_layer("conv"))
    assert names(record(model, whole=whole)) == ["pruner", "conv"][not whole :]


def test_an_input_shape_replaces_unknown_sizes():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    assert record(model).outputs.shape == (None, None, None, 2)
    assert record(model, input_shape=(7, 8, 3)).outputs.shape == (None, 5, 6, 2)


def test_training_goes_down_to_the_layers_of_an_inner_model():
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), layers.Dropout(0.5, name="drop")], name="inner")
    model = keras.Model(inputs, inner(inputs, training=True))
    recorded, _ = record(model).calls
    assert recorded.kwargs["training"] is True


@pytest.mark.parametrize("name", ["residual", "shared_layer", "multi_input_output"])
def test_every_call_of_a_model_is_written_down_once(name):
    model = zoo.build(name)
    nodes = sum(len(layer._inbound_nodes) for layer in model.operations)
    inputs = len(keras.tree.flatten(model.inputs))
    assert len(record(model).calls) == nodes - inputs


@keras.saving.register_keras_serializable("tests_record")
class Positions(layers.Layer):
    """Adds the position of each row, for which it has to know how many there are."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        rows = ops.arange(ops.shape(x)[1], dtype="float32")
        return self.dense(x) + ops.reshape(rows, (1, -1, 1))


class Shares(Positions):
    """Divides by how many rows there are, which no tensor is."""

    def call(self, x):
        return self.dense(x) / ops.cast(ops.shape(x)[1], "float32")


@pytest.mark.parametrize("rows", [None, 5])
def test_what_opens_at_known_sizes_only_stays_closed_for_an_input_shape(rows):
    inputs = keras.Input((rows, 4))
    x = Shares(name="shares")(layers.Dense(8, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    names = [c.name for c in recording_of(model, (5, 4)).all_calls()]
    assert ("shares" in names) == (rows is None)
    assert names[:1] == ["first"]
    if rows is None:
        closed = {c.name: c.closed for c in recording_of(model, (5, 4)).all_calls()}
        assert "its outputs are others" in closed["shares"]
        assert names == [c.name for c in recording_of(model).all_calls()]


def test_what_opens_at_any_size_has_the_same_calls_at_a_known_one():
    inputs = keras.Input((None, 4))
    x = Positions(name="positions")(layers.Dense(8, name="first")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    own, known = recording_of(model), recording_of(model, (5, 4))
    assert [c.name for c in known.calls] == [c.name for c in own.calls]
    assert "positions" not in [c.name for c in own.calls]
    assert (own.outputs.shape, known.outputs.shape) == ((None, None, 2), (None, 5, 2))
