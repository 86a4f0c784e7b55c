"""to_tf_keras: the same model in Keras 2, layer by layer; what it cannot take is named."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from resrep_keras import tfmot
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import is_graph
from resrep_keras.keras_adapter import input_name, is_layer
from resrep_keras.surgery.forward import example_inputs, run
from tests import helpers, zoo

pytestmark = pytest.mark.tensorflow_only
tf_keras = pytest.importorskip("tf_keras")

# Members of the zoo with layers that Keras 2 does not have: of the user's own, and newer ones.
REFUSED = {
    "layers_without_rules": ("'squash' of type Squash", "'told' of type Told", "'linear'"),
    "unknown_layer": ("'mystery' of type Mystery",),
    "normalisations": ("RMSNormalization",),
    "attention": ("GroupedQueryAttention", "RMSNormalization"),
    "attention_pooling": ("SelfAttentionPooling",),
    "layers_that_are_opened": ("PixelShuffle", "FeedForward"),
    "decoder_block": ("RMSNormalization",),
    "mixed_positions": ("DepthwiseConv of keras.ops",),
}


def outputs_of(copy, inputs):
    return [np.asarray(value) for value in keras.tree.flatten(copy(inputs, training=False))]


def assert_equal(model, copy, within=1e-6):
    inputs = example_inputs(model)
    expected, found = keras.tree.flatten(run(model, inputs)), outputs_of(copy, inputs)
    assert len(expected) == len(found)
    for one, other in zip(expected, found):
        assert np.ptp(one) > 0
        np.testing.assert_allclose(other, one, rtol=0, atol=within * np.abs(one).max())


@helpers.each_kind(sorted(set(zoo.ZOO) - set(REFUSED)))
def test_outputs_are_equal(name):
    model = zoo.build(name)
    recording, copy = recording_of(model, whole=True), tfmot.to_tf_keras(model)
    assert_equal(model, copy)
    assert copy.name == model.name
    own = keras.tree.flatten(recording.inputs)
    if is_graph(model):  # else its inputs are made anew each time
        assert sorted(copy.input_names) == sorted(map(input_name, own))
    made = {layer.name for layer in copy.submodules if hasattr(layer, "get_weights")}
    for recorded in recording.all_calls():
        assert not is_layer(recorded.operation) or recorded.name in made


@pytest.mark.parametrize("name", REFUSED)
def test_all_that_cannot_be_taken_is_named_at_once(name, monkeypatch):
    model = zoo.build(name)
    monkeypatch.setattr(tf_keras, "Model", None)  # nothing is built
    with pytest.raises(ValueError, match="tf_keras cannot take model") as error:
        tfmot.to_tf_keras(model)
    for words in REFUSED[name]:
        assert words in str(error.value)
    assert "resrep_keras.tfmot.counterpart.register" in str(error.value)


def test_an_application_is_equal():  # all others: test_applications.py
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), classes=5, classifier_activation=None
    )
    generator = np.random.default_rng(0)
    for weight in model.weights:  # else some outputs are next to nothing
        if weight.path.endswith(("gamma", "beta", "moving_mean", "moving_variance")):
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
    assert_equal(model, tfmot.to_tf_keras(model))


# --- operations -----------------------------------------------------------------------------------


def test_operations_become_the_layers_that_tfmot_knows():
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    steps = {
        "Add": lambda x: x + inputs,
        "Subtract": lambda x: x - inputs,
        "Multiply": lambda x: ops.multiply(x, inputs),
        "Rescaling": lambda x: 2 - x / 4,
        "Activation": ops.relu,
        "ReLU": ops.relu6,
        "LeakyReLU": ops.leaky_relu,
        "Concatenate": lambda x: ops.concatenate([x, inputs], axis=-1),
        "Permute": lambda x: ops.transpose(x, (0, 1, 3, 2)),
        "MaxPooling2D": lambda x: ops.max_pool(x, 2),
        "Softmax": ops.softmax,
        "GlobalAveragePooling2D": lambda x: ops.mean(x, axis=(1, 2)),
    }
    for step in steps.values():
        x = step(x)
    x = ops.reshape(x, (-1, 3, 2))
    model = zoo.randomise(keras.Model(inputs, x))
    copy = tfmot.to_tf_keras(model)
    assert_equal(model, copy)
    kinds = {type(layer).__name__ for layer in copy.layers}
    assert {*steps, "Reshape"} <= kinds
    assert "TFOpLambda" not in kinds


def test_other_operations_are_those_of_tensorflow():
    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 1)(inputs)
    x = ops.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]], constant_values=0.5)
    x = ops.roll(ops.flip(x, 1), 1, axis=2)[:, 1:, :, None]
    x = ops.squeeze(x, 3) * np.linspace(0.5, 1, 4).astype("float32")
    first, second = ops.split(x, [1], axis=-1)
    x = ops.where(second > 0.0, ops.sqrt(ops.abs(second) + 1.0), ops.square(second))
    x = ops.stack([x, ops.repeat(first, 3, axis=-1), ops.tile(first, (1, 1, 1, 3))], axis=1)
    x = ops.moveaxis(ops.swapaxes(x, 1, 2), 1, -1)
    x = ops.var(x, axis=-1) + ops.logsumexp(x, axis=-1) + ops.power(ops.max(x, axis=-1), 2)
    x = ops.clip(ops.gelu(ops.take(x, [0, 2], axis=-1) / 9), -1, 3)
    model = zoo.randomise(keras.Model(inputs, ops.log_softmax(x)))
    assert_equal(model, tfmot.to_tf_keras(model))


def test_numbers_of_other_types_are_not_mixed():
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layers.Embedding(9, 2)(inputs + 1) * 2.0)
    assert_equal(zoo.randomise(model), tfmot.to_tf_keras(model))
    mixed = keras.Model(inputs, ops.add(layers.Embedding(9, 4)(inputs)[:, 0], inputs))
    with pytest.raises(ValueError, match=r"Add of keras\.ops.*types float32, int32"):
        tfmot.to_tf_keras(mixed)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "activation", "relu6 hard_sigmoid hard_silu leaky_relu silu gelu mish exponential".split()
)
def test_activations_mean_the_same(activation):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(7, activation), layers.Activation(activation)]
    )
    for weight in model.weights:
        weight.assign(np.random.default_rng(0).normal(0, 0.7, weight.shape))
    assert_equal(model, tfmot.to_tf_keras(model))


def test_an_activation_that_keras_2_lacks_is_named():
    inside = layers.LSTM(3, recurrent_activation="hard_sigmoid", name="lstm")
    model = keras.Sequential(
        [keras.Input((4, 5)), layers.Dense(7, "tanh_shrink", name="hidden"), inside]
    )
    with pytest.raises(ValueError) as error:
        tfmot.to_tf_keras(model)
    assert "'hidden' of type Dense has activation 'tanh_shrink'" in str(error.value)
    assert "'lstm' of type LSTM has activation 'hard_sigmoid'" in str(error.value)


def test_what_training_goes_by_is_kept():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(7, kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2), name="one"),
            layers.Dropout(0.4),
            layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(0.7), name="two"),
            layers.Dense(2, trainable=False, name="three"),
        ]
    )
    copy = tfmot.to_tf_keras(model)
    kernel = model.get_layer("one").get_weights()[0]
    expected = 0.1 * np.abs(kernel).sum() + 0.2 * np.square(kernel).sum()
    np.testing.assert_allclose(float(copy.losses[0]), expected, rtol=1e-5)
    assert copy.get_layer("two").kernel_constraint.max_value == 0.7
    assert [w.shape for w in copy.trainable_weights] == [w.shape for w in model.trainable_weights]
    assert copy.layers[2].rate == 0.4


@keras.saving.register_keras_serializable("tfmot")
class OwnRegularizer(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return ops.sum(weights)

    def get_config(self):
        return {}


def test_an_object_of_the_users_own_is_named():
    hidden = layers.Dense(3, kernel_regularizer=OwnRegularizer(), name="hidden")
    with pytest.raises(ValueError, match="'hidden' of type Dense has OwnRegularizer"):
        tfmot.to_tf_keras(keras.Sequential([keras.Input((5,)), hidden]))


def test_a_mixed_policy_becomes_float32():
    inputs = keras.Input((5,))
    hidden = layers.Dense(4, dtype="mixed_float16", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype="float32")(hidden))
    copy = tfmot.to_tf_keras(model)
    assert copy.get_layer("hidden").compute_dtype == "float32"
    assert_equal(model, copy, within=1e-3)


def test_adapted_statistics_are_constants():
    data = np.random.default_rng(0).normal(3, 2, (50, 4, 4, 3))
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.Normalization(), layers.Conv2D(2, 1)])
    model.layers[0].adapt(data)
    assert_equal(model, tfmot.to_tf_keras(model))


# --- layers of one's own --------------------------------------------------------------------------


class Doubled(layers.Dense):
    """A dense layer that is another one in tf_keras."""

    def call(self, inputs):
        return super().call(2 * inputs)


def test_a_rule_is_registered_from_outside():
    model = keras.Sequential([keras.Input((5,)), Doubled(3, name="own")])
    with pytest.raises(ValueError, match="'own' of type Doubled"):  # no plain Dense
        tfmot.to_tf_keras(model)

    @tfmot.counterpart.register(Doubled)
    def _(layer, recorded):
        return tf_keras.layers.Dense(layer.units, name=recorded.name)

    with pytest.raises(ValueError, match=r"differs from it by 0\.[45]"):
        tfmot.to_tf_keras(model)

    class OfKeras2(tf_keras.layers.Dense):
        def call(self, inputs):
            return super().call(2 * inputs)

    @tfmot.counterpart.register(Doubled)
    def _(layer, recorded):
        return OfKeras2(layer.units, name=recorded.name)

    assert_equal(model, tfmot.to_tf_keras(model))


def test_nothing_is_shared():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    before, copy = model.get_weights(), tfmot.to_tf_keras(model)
    copy.compile("sgd", "mse")
    copy.fit(np.ones((8, 5)), np.ones((8, 3)), verbose=0)
    assert np.abs(copy.get_weights()[0] - before[0]).max() > 0
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
