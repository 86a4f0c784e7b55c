"""Which layers made of layers are opened, and which stay closed: a graph would not be the same."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras.graph.composite import Closed, no_config, open_call, sublayers
from resrep_keras.graph.record import record
from resrep_keras.keras_adapter import call_with_values


class Composite(layers.Layer):
    """Two dense layers and a generator of random numbers; subclasses call them as they like."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(3, name="second")
        self.seed = keras.random.SeedGenerator(1)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((None, 4))
        self.built = True


class Plain(Composite):
    def call(self, x):
        return self.second(ops.relu(self.first(x)) * 0.5)


class WithConstants(Composite):
    def call(self, x):
        return self.second(self.first(x + np.arange(6.0, dtype="float32")) * ops.ones((4,)))


class ReadsAPart(Composite):
    def call(self, x):
        return ops.matmul(ops.matmul(x, self.first.kernel), self.second.kernel)


class ReadsACalledPart(Composite):
    def call(self, x):
        x = self.second(self.first(x))
        return ops.matmul(x, ops.transpose(self.second.kernel))


class HoldsAVariableOfACalledPart(Composite):
    def call(self, x):
        x = self.second(self.first(x))
        return ops.matmul(ops.matmul(x, ops.ones((3, 4))), self.second.kernel)


class ReadsAPartAsANumber(Composite):
    def call(self, x):
        return self.second(self.first(x)) * float(ops.convert_to_numpy(self.first.kernel)[0, 0])


class LeavesAPartOut(Composite):
    def call(self, x):
        return ops.relu(self.first(x))


class Draws(Composite):
    def call(self, x):
        return self.second(self.first(x)) + 1e-6 * keras.random.normal((3,), seed=self.seed)


class DrawsByKeras(Composite):
    def call(self, x):
        return self.second(self.first(x)) + 1e-6 * keras.random.normal((3,))


class DrawsTheSame(Composite):
    def call(self, x):
        return self.second(self.first(x)) + keras.random.normal((3,), seed=7)


class Counts(Composite):
    def call(self, x):
        self.first.bias.assign_add(ops.ones((4,)))
        return self.second(self.first(x))


class FailsOnSymbols(Composite):
    def call(self, x):
        return self.second(self.first(x)) * float(x[0, 0])


class FailsOnArrays(Composite):
    def call(self, x):
        if not isinstance(x, keras.KerasTensor) and (ops.convert_to_numpy(x) != 3).any():
            raise LookupError("three is expected")
        return self.second(self.first(x))


class KnowsItsInput(Composite):
    def call(self, x):
        x = self.second(self.first(x))
        return x if isinstance(x, keras.KerasTensor) else 2 * x


class HasARegularizer(Plain):
    def __init__(self, **kwargs):
        super().__init__(activity_regularizer="l2", **kwargs)


class AddsALoss(Composite):
    def call(self, x):
        x = self.second(self.first(x))
        if not isinstance(x, keras.KerasTensor):  # Keras takes no symbolic loss
            self.add_loss(ops.sum(x))
        return x


class WithTraining(Composite):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm, self.dropout = layers.BatchNormalization(name="norm"), layers.Dropout(0.5)

    def build(self, input_shape):
        super().build(input_shape)
        self.norm.build((None, 4))


class HandsNothingOn(WithTraining):
    def call(self, x):
        return self.second(self.dropout(self.norm(self.first(x))))


class HandsADefaultOn(WithTraining):
    def call(self, x, training=False):
        x = self.norm(self.first(x), training=training)
        return self.second(self.dropout(x, training=training))


class HandsOnToOne(WithTraining):
    def call(self, x, training=None):
        return self.second(self.dropout(self.norm(self.first(x)), training=training))


class DropsInTrainingOnly(WithTraining):
    def call(self, x, training=False):
        x = self.norm(self.first(x))
        return self.second(self.dropout(x) if training else x)


class FixesABatchNorm(WithTraining):
    def call(self, x):
        return self.second(self.dropout(self.norm(self.first(x), training=False)))


class AlwaysDrops(WithTraining):
    def call(self, x):
        return self.second(self.dropout(self.norm(self.first(x)), training=True))


class TrainsByDefault(WithTraining):
    def call(self, x, training=True):
        x = self.norm(self.first(x), training=training)
        return self.second(self.dropout(x, training=training))


class HasWeights(Composite):
    """Own weights of several shapes, in attributes of several kinds."""

    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(shape=(4,), name="scale", regularizer="l2")
        self.more = {"offsets": [self.add_weight(shape=(1, 3), name="offset", trainable=False)]}

    def call(self, x):
        x = self.scale * ops.relu(self.first(x))
        return self.second(x) - ops.exp(self.more["offsets"][0])


class HasANumber(Composite):
    def build(self, input_shape):
        super().build(input_shape)
        self.alpha = self.add_weight(shape=(), name="alpha")

    def call(self, x):
        return self.second(self.first(x)) * self.alpha


class CallsAPartOnNumbers(Composite):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.positions = layers.Embedding(3, 3, name="positions")

    def build(self, input_shape):
        super().build(input_shape)
        self.positions.build(())

    def call(self, x):
        return self.second(self.first(x)) + self.positions(ops.arange(1))


class Trains(Composite):
    def call(self, x, training=False):
        x = self.first(x)
        return self.second(2 * x if training else x)


def opened(kind, **settings):
    layer = kind()
    inputs = keras.Input((6,))
    layer.build(inputs.shape)
    before = [ops.convert_to_numpy(variable) for variable in layer.variables]
    found = open_call(layer, (inputs,), {}, **settings)
    for old, variable in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(variable))
    return layer, found


OPEN = [
    Plain,
    WithConstants,
    DrawsTheSame,
    HandsNothingOn,
    HandsADefaultOn,
    HandsOnToOne,
    DropsInTrainingOnly,
    HasWeights,
    CallsAPartOnNumbers,
]


@pytest.mark.parametrize("kind", OPEN)
def test_what_calls_its_parts_is_opened(kind):
    layer, (graph, tensors) = opened(kind)
    assert [x.shape for x in tensors] == [(None, 6)]
    assert {id(v) for v in graph.weights} == {id(v) for v in layer.weights}
    x = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    np.testing.assert_allclose(graph([x]), layer(x), rtol=1e-5, atol=1e-6)
    layer(x, training=True)  # both draw the same from here on
    values = [(variable, variable.value) for variable in layer.variables]
    expected, actual = (
        call_with_values(model, values, inputs, training=True)
        for model, inputs in ((layer, x), (graph, [x]))
    )
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5, atol=1e-6)
    assert len(actual[1]) == len(expected[1])


READS = "its call\\(\\) reads '.*kernel' rather than call the layer of it"
COMPUTES = r"its call\(\) computes with weights of a layer rather than call it"
DRAWS = r"its call\(\) draws random numbers itself; let a layer of its own draw them"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ReadsAPart, READS),
        (ReadsACalledPart, COMPUTES),
        (HoldsAVariableOfACalledPart, READS),
        (ReadsAPartAsANumber, COMPUTES),
        (HasANumber, r"its weight '.*alpha' is a single number, .* give it the shape \(1,\)"),
        (LeavesAPartOut, r"its call\(\) does not call the layer of '.*second/kernel'"),
        (Draws, DRAWS),
        (DrawsByKeras, DRAWS),
        (Counts, r"its call\(\) assigns '.*first/bias'"),
        (Trains, r"its call\(\) is another one in training than in inference: see multiply"),
        (HasARegularizer, "it has an activity_regularizer"),
        (AddsALoss, r"its call\(\) adds a loss"),
        (FixesABatchNorm, "it calls 'norm' with training=False in training"),
        (AlwaysDrops, "it calls '.*dropout.*' with training=True in inference"),
        (TrainsByDefault, r"its call\(\) trains unless it is told otherwise"),
        (KnowsItsInput, "its outputs are others than those of the layers and operations that"),
        (FailsOnSymbols, r"its call\(\) raises \w+: .* on symbolic tensors"),
        (FailsOnArrays, r"it raises LookupError: three is expected on random arrays"),
    ],
)
def test_what_does_more_than_to_call_its_parts_stays_closed_with_its_reason(kind, reason):
    with pytest.raises(Closed, match=f"^{reason}"):
        opened(kind)


def test_an_input_that_may_be_left_out_keeps_closed():
    layer = Plain()
    with pytest.raises(Closed, match=r"^it reads an input that may be left out \(optional=True\)$"):
        open_call(layer, (keras.Input((6,), optional=True),), {})


class Attends(layers.Layer):
    """A mask of what it reads; its attention reads that off its query, whatever it is told."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(1, 2)

    def call(self, x, mask=None):
        return self.attention(query=x, value=x)


def test_a_mask_that_only_is_attached_keeps_closed():
    inputs, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    layer = Attends()
    layer(inputs)
    assert open_call(layer, (inputs,), {"mask": None}) is not None
    with pytest.raises(
        Closed, match=r"outputs are others .*; its input has a mask, which operations do not hand"
    ):
        open_call(layer, (inputs,), {"mask": mask})


def test_what_holds_no_layers_is_not_opened():
    assert open_call(layers.Dense(3), (keras.Input((6,)),), {}) is None


class Unsaved(layers.Layer):
    """A weight and no configuration, since Keras can save no such argument."""

    def __init__(self, what, **kwargs):
        super().__init__(**kwargs)
        self.what = what

    def build(self, input_shape):
        self.scale = self.add_weight(shape=input_shape[-1:], name="scale")

    def call(self, x):
        return self.what(x) * self.scale


def test_what_no_copy_can_be_made_of_is_opened_although_it_holds_no_layers():
    layer, inputs = Unsaved(ops.square), keras.Input((6,))
    layer(inputs)
    graph, _ = open_call(layer, (inputs,), {})
    assert graph.weights == [layer.scale]


def test_a_layer_with_a_part_of_which_no_copy_can_be_made_stays_whole():
    @keras.saving.register_keras_serializable("test_composite")
    class Holds(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.first = layers.Dense(6, name="first")
            self.part = Unsaved(lambda x: x * float(x[0, 0]), name="part")

        def call(self, x):
            return self.part(self.first(x))

    class Outer(Holds):
        def compute_output_shape(self, input_shape):
            return input_shape

    outer, inputs = Outer(name="outer"), keras.Input((6,))
    outer(ops.ones((2, 6)))
    outer.part.compute_output_shape = lambda shape: shape
    recording = record(keras.Model(inputs, layers.Dense(2)(outer(inputs))))
    assert recording.calls[0].operation is outer
    assert recording.calls[0].closed.startswith(
        "of its part 'part' no copy can be made: it has no get_config(), and its call()"
    )


def test_why_there_is_no_configuration_is_told_apart():
    class Broken(layers.Layer):
        def get_config(self):
            return {"size": self.size}  # which it does not have

    assert no_config(layers.ReLU()) is None
    assert no_config(Unsaved(ops.square)) == "it has no get_config()"
    assert no_config(Broken()).startswith("its get_config() raises AttributeError: 'Broken'")


def test_a_model_may_leave_out_a_part_that_its_call_does_not_use():
    assert opened(LeavesAPartOut, whole=True)[1] is not None
    for kind in (ReadsAPart, ReadsACalledPart, ReadsAPartAsANumber):
        with pytest.raises(Closed):
            opened(kind, whole=True)


def test_drawn_numbers_keep_closed_what_has_drawn_before():
    keras.random.normal((1,))  # from now on Keras's own generator is there
    with pytest.raises(Closed, match=DRAWS):
        opened(DrawsByKeras)


def test_sublayers_are_found_at_any_depth():
    layer = Plain()
    layer.more = {"a": [layers.ReLU(name="inside")]}
    assert {each.name for each in sublayers(layer)} == {"first", "second", "inside"}


class WithScores(layers.Layer):
    """Returns `None` for scores that nobody asked for, and scales by a weight of its own."""

    def build(self, shape):
        self.dense, self.dropout = layers.Dense(4), layers.Dropout(0.5)
        self.scale = self.add_weight(shape=(4,), initializer="uniform", name="scale")
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dropout(self.dense(x) * self.scale, training=training), None


class Encoder(layers.Layer):
    """Two parts of that kind, whose sublayers have the same names; also returns an array."""

    def build(self, shape):
        self.parts = [WithScores(name=f"part_{number}") for number in range(2)]
        for part in self.parts:
            part.build(shape)

    def call(self, x):
        for part in self.parts:
            x, _ = part(x)
        return x, ops.zeros((0, 4))


def test_parts_that_return_more_than_tensors_are_run_in_place():
    encoder, tensor = Encoder(), keras.Input((4,))
    encoder.build((None, 4))
    names = [part.dense.name for part in encoder.parts]
    graph, _ = open_call(encoder, (tensor,), {})
    called = {id(weight) for layer in graph.layers for weight in layer.weights}
    assert called == set(map(id, encoder.weights))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    made, empty = graph([x])
    np.testing.assert_allclose(made, encoder(x)[0], rtol=1e-6)
    assert empty.shape == (0, 4) and [part.dense.name for part in encoder.parts] == names
