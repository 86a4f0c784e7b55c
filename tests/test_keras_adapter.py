"""What the library knows of how Keras is built, one function at a time."""

import contextlib
import subprocess
import sys
import types
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras import keras_adapter
from tests.paths import ROOT

# Functions with an operation class that some rule knows, and a call that shows the class.
CALLS = {
    "reshape": lambda x: ops.reshape(x, (-1, 16)),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0))),
    "get_item": lambda x: x[:, :2],
    "split": lambda x: ops.split(x, 2, axis=1),
    "unstack": lambda x: ops.unstack(x, axis=1),
    "stack": lambda x: ops.stack([x, x], axis=1),
    "concatenate": lambda x: ops.concatenate([x, x]),
    "einsum": lambda x: ops.einsum("abc,adc->abd", x, x),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "swapaxes": lambda x: ops.swapaxes(x, 1, 2),
    "moveaxis": lambda x: ops.moveaxis(x, 1, 2),
    "expand_dims": lambda x: ops.expand_dims(x, 1),
    "squeeze": lambda x: ops.squeeze(x[:, :1], axis=1),
    "clip": lambda x: ops.clip(x, 0, 1),
    "cast": lambda x: ops.cast(x, "float16"),
    "average_pool": lambda x: ops.average_pool(x, 2),
    "max_pool": lambda x: ops.max_pool(x, 2),
    "image.resize": lambda x: ops.image.resize(ops.expand_dims(x, -1), (2, 2)),
    "activations.relu": keras.activations.relu,
}
UNARY = (
    "abs ceil cos exp expm1 floor log log1p log2 log10 negative round rsqrt sigmoid sign sin sqrt "
    "square tanh relu relu6 silu softplus softsign elu selu gelu leaky_relu hard_sigmoid hard_silu "
    "hard_tanh softmax log_sigmoid celu erf reciprocal mean sum max min"
).split()
BINARY = "add subtract multiply divide true_divide power maximum minimum matmul".split()


def called(name):
    """The class of the last operation that a call of a function makes."""
    x = keras.Input((4, 4))
    if name in CALLS:
        outputs = CALLS[name](x)
    else:
        outputs = keras_adapter._exported(ops, name)(*[x, x][: 1 + (name in BINARY)])
    return type(keras.Model(x, outputs).operations[-1])


def test_functional_models_are_known():
    inputs = keras.Input((2,))
    assert keras_adapter.is_functional(keras.Model(inputs, layers.Dense(2)(inputs)))
    assert not keras_adapter.is_functional(keras.Sequential([inputs]))
    assert not keras_adapter.is_functional(layers.Dense(2))


def test_layers_are_told_from_raw_operations():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, ops.relu(layers.Dense(3)(inputs)))
    _, dense, relu = model.operations
    assert [keras_adapter.is_layer(operation) for operation in (dense, relu)] == [True, False]
    assert len(keras_adapter.weights_of_operation(dense)) == 2
    assert keras_adapter.weights_of_operation(relu) == ()


def test_layer_classes_are_those_that_there_are():
    assert keras_adapter.layer_classes("Conv2D", "NoSuchLayer", "ReLU") == (
        layers.Conv2D,
        layers.ReLU,
    )


@pytest.mark.parametrize("name", [*CALLS, *UNARY, *BINARY])
def test_operation_classes_are_those_that_a_call_makes(name):
    assert keras_adapter.operation_class(name) is called(name)


def test_operation_classes_are_those_that_there_are():
    add, exp = keras_adapter.operation_classes("add", "no_such_function", "exp")
    assert (add.__name__, exp.__name__) == ("Add", "Exp")
    with pytest.raises(ValueError, match=r"does not have an operation behind keras.ops.no_such"):
        keras_adapter.operation_class("no_such_function")


def test_layers_of_the_applications_are_found():
    builder = keras.applications.ConvNeXtTiny
    scale, depth = keras_adapter.application_classes(
        builder, "LayerScale", "NoSuchLayer", "StochasticDepth"
    )
    assert issubclass(scale, layers.Layer) and issubclass(depth, layers.Layer)
    inception = keras.applications.InceptionResNetV2
    assert len(keras_adapter.application_classes(inception, "CustomScaleLayer")) == 1


def test_the_data_format_is_read_where_layers_have_one():
    first = layers.MaxPooling2D(data_format="channels_first")
    assert keras_adapter.data_format(first) == "channels_first"
    assert keras_adapter.data_format(layers.Dense(2)) == "channels_last"


def test_activations_are_read_where_layers_have_them():
    assert keras_adapter.activation_setting(layers.Dense(2, "relu")) is keras.activations.relu
    assert keras_adapter.activation_setting(layers.Dense(2)) is keras.activations.linear
    assert keras_adapter.activation_setting(layers.Flatten()) is None


def test_arrays_are_told_from_other_values():
    arrays = np.ones(2), ops.ones(2), keras.Input((2,)), keras.Variable(np.ones(2))
    assert all(map(keras_adapter.is_array, arrays))
    assert not any(map(keras_adapter.is_array, (1.5, None, "same", [1, 2])))


def test_layers_take_the_flag_from_the_call_they_are_made_in():
    class Tells(layers.Layer):
        def call(self, x, training=None):
            told.append(training)
            return x

    told, outer, inner = [], Tells(), Tells()
    inner(np.ones(2))
    for flag in (True, False):
        with keras_adapter.called_from(outer, flag):
            inner(np.ones(2))
            inner(keras.Input((2,)))
    inner(np.ones(2))
    assert told == [None, True, True, False, False, None]


def test_calls_with_other_values_change_no_variable():
    layer = layers.Dense(1, use_bias=False)
    x = np.ones((1, 3), "float32")
    layer(x)
    kernel = layer.kernel
    before = ops.convert_to_numpy(kernel)
    outputs, changes = keras_adapter.call_with_values(layer, [(kernel, ops.full((3, 1), 2.0))], x)
    assert float(outputs[0, 0]) == 6 and changes == []
    np.testing.assert_array_equal(kernel, before)


def test_calls_with_other_values_tell_what_they_would_assign():
    layer = layers.Dropout(0.5, seed=1)
    state = layer.seed_generator.state
    before = ops.convert_to_numpy(state).tolist()
    values = [(state, ops.convert_to_tensor(state))]
    x = np.ones((2, 3), "float32")
    _, changes = keras_adapter.call_with_values(layer, values, x, training=True)
    ((variable, value),) = changes
    assert variable is state and ops.convert_to_numpy(value).tolist() != before
    assert ops.convert_to_numpy(state).tolist() == before


def test_deep_models_can_be_made():
    limit = sys.getrecursionlimit()
    with keras_adapter.deep_models():
        assert sys.getrecursionlimit() >= 20_000
        x = inputs = keras.Input((1,))
        for _ in range(limit):
            x = ops.negative(x)
        keras.Model(inputs, x)
    assert sys.getrecursionlimit() == limit


def test_a_model_becomes_another_one():
    def build(units):
        inputs = keras.Input((2,))
        return keras.Model(inputs, layers.Dense(units)(inputs), name=f"of_{units}")

    model, other = build(3), build(1)
    model.mark = "mine"
    keras_adapter.become(model, other)
    x = np.ones((4, 2), "float32")
    assert model.mark == "mine" and model.name == "of_1"
    np.testing.assert_array_equal(model(x), other(x))
    model.compile("sgd", "mse")
    model.fit(x, np.ones((4, 1)), verbose=0)


@keras.saving.register_keras_serializable("test_keras_adapter")
class Prunes(keras.Model):
    training_class = None


class Trains(keras.Model):
    def train_step(self, *args):
        return super().train_step(*args)


def test_training_classes_join_two_classes():
    inputs = keras.Input((2,))
    kind = keras_adapter.training_class(Prunes, Trains)
    assert kind is keras_adapter.training_class(Prunes, Trains)
    model = kind(inputs, layers.Dense(2)(inputs))
    assert isinstance(model, Prunes) and isinstance(model, Trains)
    assert keras_adapter.is_functional(model) and kind.training_class is Trains
    assert kind.train_step is Trains.train_step and Prunes.training_class is None


def test_state_is_synced_where_fit_trains_on_copies():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            keras_adapter.sync_state(self.model)
            seen.append(ops.convert_to_numpy(self.model.layers[-1].kernel)[0, 0])

    inputs = keras.Input((1,))
    model = keras.Model(inputs, layers.Dense(1, kernel_initializer="zeros")(inputs))
    model.compile("sgd", "mse")
    x = np.ones((4, 1), "float32")
    model.fit(x, x, batch_size=2, verbose=0, callbacks=[Watch()])
    assert 0 < seen[0] < seen[1]
    assert keras_adapter.trains_on_copies(model) is (keras.backend.backend() == "jax")


@pytest.mark.tensorflow_only
def test_strategies_and_replicas_are_known():
    import tensorflow as tf

    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    assert keras_adapter.number_of_replicas(model) == 1
    assert keras_adapter.number_of_replicas(model.layers[0].kernel.value) == 1
    with keras_adapter.strategy_scope(model):
        assert tf.distribute.get_strategy() is strategy


def test_replicas_are_counted_where_there_is_no_strategy():
    assert keras_adapter.number_of_replicas(object()) == 1


def test_optimizers_know_the_place_of_a_variable():
    variables = [keras.Variable(np.zeros(2)) for _ in range(3)]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    assert [keras_adapter.place_of_variable(optimizer, v) for v in variables] == [0, 1, 2]


def test_optimizers_inside_others_are_known():
    inner = keras.optimizers.SGD()
    assert keras_adapter.wrapped_optimizer(inner) is None
    assert keras_adapter.wrapped_optimizer(keras.optimizers.LossScaleOptimizer(inner)) is inner
    assert keras_adapter.parts_of_optimizer(inner) == [inner]
    assert not keras_adapter.chooses_by_function(inner)


@pytest.mark.skipif("MultiOptimizer" not in dir(keras.optimizers), reason="not in this Keras")
def test_parts_of_a_multi_optimizer_are_known():
    parts = keras.optimizers.SGD(), keras.optimizers.Adam()
    chosen = keras.optimizers.OptimizerMap(parts[1], {"head": parts[0]})
    several = keras.optimizers.MultiOptimizer(chosen)
    assert set(map(id, keras_adapter.parts_of_optimizer(several))) == set(map(id, parts))
    assert not keras_adapter.chooses_by_function(several)
    by_function = keras.optimizers.MultiOptimizer(lambda variable: parts[0])
    assert keras_adapter.chooses_by_function(by_function)


NAMES = """
import subprocess
import sys
import keras
if sys.argv[1:]:
    import resrep_keras
inputs = keras.Input((2,))
layer = keras.layers.Dense(2)
model = keras.Model(inputs, keras.ops.relu(layer(inputs)))
print(inputs.name, layer.name, *[o.name for o in model.operations], model.name, model.output.name)
print(keras.Sequential().name, keras.layers.Conv2D(2, 3).name, keras.optimizers.SGD().name)
"""


def test_importing_the_library_changes_no_automatic_name():
    names = [
        subprocess.run(
            [sys.executable, "-c", NAMES, *flags], cwd=ROOT, capture_output=True, check=True
        ).stdout.splitlines()[-2:]
        for flags in ((), ("library",))
    ]
    assert names[0] == names[1] and len(names[0]) == 2


def test_the_scope_of_a_model_is_that_of_its_strategy():
    with keras_adapter.strategy_scope(keras.layers.Dense(1)) as scope:
        assert scope is None
    entered = contextlib.nullcontext("entered")
    model = types.SimpleNamespace(distribute_strategy=types.SimpleNamespace(scope=lambda: entered))
    with keras_adapter.strategy_scope(model) as scope:
        assert scope == "entered"


# --- inputs ---------------------------------------------------------------------------------------


def test_an_input_is_made_like_another_one():
    unnamed = keras.Input((3,), dtype="int32", sparse=True, optional=True)
    fresh = keras_adapter.input_like(unnamed)
    assert (fresh.name, keras_adapter.input_name(fresh)) == (
        unnamed.name,
        keras_adapter.input_name(unnamed),
    )
    assert fresh.name != keras_adapter.input_name(fresh)
    assert (fresh.shape, fresh.dtype, fresh.sparse) == ((None, 3), "int32", True)
    assert keras_adapter.is_optional(fresh)
    other = keras_adapter.input_like(keras.Input((3,), name="x"), (2, 5))
    assert (other.name, other.shape, keras_adapter.is_optional(other)) == ("x", (2, 5), False)


def test_a_tensor_that_is_no_input_has_its_own_name():
    spec = keras.KerasTensor((2, 3), name="spec")
    outputs = layers.Dense(2)(keras.Input((3,)))
    assert keras_adapter.input_name(spec) == "spec" == keras_adapter.input_like(spec).name
    assert keras_adapter.input_name(outputs) == outputs.name
    assert not keras_adapter.is_optional(spec)


def test_what_is_made_aside_counts_nothing_for_automatic_names():
    before = layers.Dense(2).name
    with keras_adapter.automatic_names_kept():
        names = [layers.Dense(2).name, layers.Conv1D(2, 1).name, keras.Input((2,)).name]
    assert names == [layers.Dense(2).name, layers.Conv1D(2, 1).name, keras.Input((2,)).name]
    assert before not in names


def test_what_is_excluded_from_weight_decay_is_found():
    bias, optimizer = keras.Variable(1.0, name="bias"), keras.optimizers.AdamW()
    other = keras.Variable(1.0, name="other")
    assert keras_adapter.decay_exclusions(optimizer, [bias]) == ([], None)
    optimizer.exclude_from_weight_decay(var_list=[bias], var_names=["gamma"])
    listed, pattern = keras_adapter.decay_exclusions(optimizer, [other, bias])
    assert listed == [bias] and pattern.search("norm_gamma")


# --- what a model is compiled with ----------------------------------------------------------------


def test_what_a_model_is_compiled_with():
    model, metric = keras.Sequential([keras.Input((2,)), layers.Dense(1)]), keras.metrics.AUC()
    model.compile("sgd", loss=["mse"], metrics=["mae", metric])
    given = keras_adapter.compile_arguments(model)
    assert given["loss"] == ["mse"] and given["metrics"] == ["mae", metric]


def test_the_outermost_call_in_training_is_known_inside_of_one():
    class Inner(layers.Layer):
        def call(self, x):
            seen.append(keras_adapter.outermost_training())
            return x

    seen, inner = [], Inner()
    outer = keras.Sequential([keras.Input((2,)), inner])
    x = np.ones((1, 2))
    seen.clear()
    for model in (inner, outer):
        model(x, training=True)
        model(x, training=False)
        model(x)
    assert seen == [inner, None, None, outer, None, None]
    assert keras_adapter.outermost_training() is None


def test_a_model_is_frozen_alone():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="dense")])
    keras_adapter.freeze_alone(model)
    assert not model.trainable and model.get_layer("dense").trainable
    assert model.trainable_variables == []
    model.trainable = True
    assert len(model.trainable_variables) == 2


def test_what_a_configuration_holds_is_made_as_its_copy():
    layer, copy = layers.Dense(2, name="a"), layers.Dense(2, name="a")
    with keras_adapter.shared_copies({id(layer): copy}):
        config = keras.saving.serialize_keras_object(layer)
        assert keras.saving.deserialize_keras_object(config) is copy
        other = keras.saving.serialize_keras_object(layers.Dense(3))
        assert keras.saving.deserialize_keras_object(other).units == 3
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config) not in (layer, copy)


def test_variables_and_the_generator_of_keras_are_known():
    assert keras_adapter.is_variable(keras.Variable(1.0))
    assert not keras_adapter.is_variable(ops.ones(())) and not keras_adapter.is_variable(1.0)
    keras.random.normal((1,))
    (state,) = keras_adapter.global_random_state()
    before = ops.convert_to_numpy(state).copy()
    keras.random.normal((1,))
    assert (ops.convert_to_numpy(state) != before).any()
    own = keras.random.SeedGenerator(5)
    other = keras_adapter.exchange_random_generator(own)
    assert other.state is state and keras_adapter.global_random_state() == [own.state]
    assert keras_adapter.exchange_random_generator(other) is own


def test_the_variables_that_a_call_asks_for_are_known():
    first, second, third = (keras.Variable(np.ones(2)) for _ in range(3))
    asked = keras_adapter.variables_asked(lambda x: x * (first + 1.0) + second.value, np.ones(2))
    assert asked == {id(first), id(second)} and id(third) not in asked


def test_a_rate_that_is_no_number_is_known():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)

    def function():
        return 0.1

    assert keras_adapter.rate_function(keras.optimizers.SGD(schedule)) is schedule
    assert keras_adapter.rate_function(keras.optimizers.SGD(function)) is function
    assert keras_adapter.rate_function(keras.optimizers.SGD(0.1)) is None


def test_files_of_the_older_format_are_told_apart(tmp_path):
    seen = []

    class Net(keras.Model):
        def get_config(self):
            seen.append(keras_adapter.writes_older_format())
            return super().get_config()

    inputs = keras.Input((2,))
    model = Net(inputs, keras.layers.Dense(1)(inputs))
    for name, older in (("a.h5", True), ("a.keras", False)):
        seen.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.save(tmp_path / name)
        assert seen and all(each is older for each in seen)
        assert not keras_adapter.writes_older_format()
