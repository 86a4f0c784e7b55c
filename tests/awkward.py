"""Models that nobody would draw to show a pruner: state beyond weights, parts that are shared or
frozen, names that collide, inputs of other kinds. The laws of `tests/laws/test_same_program.py`
run over each; some are refused, with the words that say so.
"""

import dataclasses
import typing

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.surgery.forward import example_inputs
from tests import awkward_layers as own
from tests import zoo

AWKWARD = {}


@dataclasses.dataclass(frozen=True)
class Awkward:
    """An awkward model.

    Args:
        build: Makes it; weights are drawn anew afterwards where they can be.
        inputs: Makes inputs from a model and a seed. Defaults to random ones.
        refused: What `wrap` says, where the model is refused on purpose.
        tolerance: Largest relative difference in float64. Defaults to rounding.
        input_shape: For a method, where sizes are unknown.
    """

    build: typing.Callable
    inputs: typing.Callable | None = None
    refused: str | None = None
    tolerance: float = 1e-10
    input_shape: object = None


def awkward(**settings):
    def register(build):
        AWKWARD[build.__name__] = Awkward(build, **settings)
        return build

    return register


def build(name, seed=0):
    return zoo.randomise(AWKWARD[name].build(), seed)


def inputs_of(name, model, seed=0):
    make = AWKWARD[name].inputs
    return example_inputs(model, seed=seed) if make is None else make(model, seed)


def _draw(seed=0):
    return np.random.default_rng(seed)


def _positive(model, seed):
    drawn = example_inputs(model, seed=seed)
    return keras.tree.map_structure(lambda x: ops.abs(x) + 0.1, drawn)


# --- state beyond weights and configuration -------------------------------------------------------


@awkward()
def adapted_normalization():
    normalization = layers.Normalization()
    normalization.adapt(_draw().normal(50, 9, (64, 8, 8, 3)).astype("float32"))
    inputs = zoo.image()
    return keras.Model(inputs, zoo.head(zoo.conv_bn(normalization(inputs), 6)))


@awkward()
def normalization_with_given_statistics():
    """Two of them: one adapted after the model was built, one by its constructor's arguments."""
    inputs = keras.Input((8,))
    late = layers.Normalization(name="late")
    given = layers.Normalization(mean=[3.0] * 8, variance=[4.0] * 8, invert=True, name="given")
    x = layers.Dense(12, activation="relu")(given(late(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(9, activation="tanh")(x)))
    late.adapt(_draw().normal(-7, 3, (64, 8)).astype("float32"))
    return model


@awkward(inputs=lambda model, seed: ops.convert_to_tensor(_draw(seed).integers(5, 12, (4, 3))))
def integer_lookup():
    lookup = layers.IntegerLookup(output_mode="multi_hot")
    lookup.adapt(np.arange(5, 12))
    inputs = keras.Input((3,), dtype="int64")
    x = layers.Dense(9, activation="relu")(lookup(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def _words(model, seed):
    import tensorflow as tf

    words = np.array(["cat", "dog", "owl", "none"])[_draw(seed).integers(0, 4, (4, 3))]
    return tf.constant(words)


@awkward(inputs=_words)
def string_lookup():
    lookup = layers.StringLookup(name="lookup")
    lookup.adapt(np.array(["cat", "dog", "owl"]))
    inputs = keras.Input((3,), dtype="string")
    x = layers.Embedding(5, 8)(lookup(inputs))
    x = layers.Conv1D(6, 2, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def _sentences(model, seed):
    import tensorflow as tf

    return tf.constant([["the cat saw"], ["a dog and the owl"], ["owl"]][seed % 2 :])


@awkward(inputs=_sentences)
def text_vectorization():
    vectorize = layers.TextVectorization(12, output_sequence_length=5)
    vectorize.adapt(np.array(["the cat and the dog saw a owl"]))
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(12, 8, mask_zero=True)(vectorize(inputs))
    x = layers.LSTM(7)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(6, activation="relu")(x)))


@awkward()
def adapted_discretization():
    discretization = layers.Discretization(num_bins=4, output_mode="one_hot")
    discretization.adapt(_draw().normal(0, 1, (200, 1)).astype("float32"))
    inputs = keras.Input((1,))
    x = layers.Dense(9, activation="relu")(discretization(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


@awkward()
def attribute_set_after_construction():
    """A layer remembers what no constructor takes, and saves it by Keras's own hook."""
    inputs = zoo.image()
    remembering = own.Remembering()
    x = zoo.conv_bn(remembering(inputs), 6)
    model = keras.Model(inputs, zoo.head(layers.Conv2D(5, 3, activation="relu")(x)))
    remembering.factor = 3.0
    return model


@awkward(refused="forgetful")
def config_that_forgets():
    inputs = zoo.image()
    x = layers.Conv2D(6, 3, activation="relu")(own.Forgetful(power=3, name="forgetful")(inputs))
    return keras.Model(inputs, zoo.head(layers.Conv2D(5, 3, activation="relu")(x)))


# --- what is frozen -------------------------------------------------------------------------------


@awkward()
def frozen_layers():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, use_bias=False, name="frozen", trainable=False)(inputs)
    x = layers.BatchNormalization(name="frozen_norm", trainable=False)(x)
    x = layers.Conv2D(6, 3, activation="relu", name="free")(ops.relu(x))
    x = layers.Conv2D(5, 3, activation="relu", name="frozen_too", trainable=False)(x)
    return keras.Model(inputs, zoo.head(x))


@awkward()
def frozen_variable():
    inputs = zoo.image()
    first = layers.Conv2D(8, 3, activation="relu")
    second = layers.Conv2D(6, 3, activation="relu")
    x = layers.Conv2D(9, 1, activation="relu")(second(first(inputs)))
    model = keras.Model(inputs, zoo.head(layers.Conv2D(7, 1, activation="relu")(x)))
    first.bias.trainable = False
    second.kernel.trainable = False
    return model


@awkward()
def frozen_backbone():
    inputs = zoo.image()
    backbone = keras.Sequential(
        [zoo.image(), layers.Conv2D(8, 3), layers.BatchNormalization(), layers.ReLU()],
        name="backbone",
    )
    backbone.trainable = False
    x = layers.Conv2D(6, 3, activation="relu")(backbone(inputs))
    return keras.Model(inputs, zoo.head(x))


@awkward()
def unfrozen_inside_a_frozen_model():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu", name="one")(inputs)
    x = layers.Conv2D(6, 3, activation="relu", name="two")(x)
    model = keras.Model(inputs, zoo.head(x))
    model.trainable = False
    model.get_layer("two").trainable = True
    return model


# --- layers that hold layers ----------------------------------------------------------------------


@awkward()
def tied_autoencoder():
    inputs = keras.Input((6,))
    encoder = layers.Dense(16, activation="relu", name="encoder")
    x = layers.Dense(12, activation="relu", name="wide")(encoder(inputs))
    x = layers.Dense(16, activation="relu", name="middle")(x)
    return keras.Model(inputs, own.Tied(encoder)(x))


@awkward(inputs=lambda model, seed: ops.convert_to_tensor(_draw(seed).integers(0, 9, (4, 5))))
def tied_embedding():
    inputs = keras.Input((5,), dtype="int32")
    embedding = layers.Embedding(9, 8, name="embedding")
    x = layers.Dense(12, activation="relu")(embedding(inputs))
    x = layers.Dense(8, name="back")(x)
    return keras.Model(inputs, own.Unembed(embedding)(x))


@awkward()
def standardised_kernel_of_a_held_layer():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = own.StandardisedHeld(6)(x)
    return keras.Model(inputs, zoo.head(layers.Conv2D(5, 3, activation="relu")(x)))


@awkward()
def standardised_kernel_in_call():
    inputs = zoo.image()
    x = own.StandardisedCall(8, 3)(inputs)
    x = layers.Conv2D(6, 3, activation="relu")(layers.ReLU()(x))
    return keras.Model(inputs, zoo.head(x))


@awkward()
def standardised_kernel_by_hook():
    inputs = zoo.image()
    x = own.StandardisedHook(8, 3, activation="relu")(inputs)
    x = own.StandardisedHook(5, 3)(layers.Conv2D(6, 3, activation="relu")(x))
    x = layers.Conv2D(9, 1, activation="relu")(x)
    return keras.Model(inputs, zoo.head(layers.Conv2D(7, 1, activation="relu")(x)))


@awkward()
def own_kernel_property():
    inputs = keras.Input((6,))
    x = own.SquaredKernel(9, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, activation="relu")(x)))


@awkward()
def own_attention_scores():
    inputs = keras.Input((5, 8))
    x = layers.Dense(8)(inputs)
    x = x + own.SharpAttention(2, 3)(x, x)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, activation="relu")(x)))


@awkward()
def kernel_of_a_held_layer_multiplied():
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu")(inputs)
    x = own.MultipliesHeldKernel(9)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, activation="relu")(x)))


@awkward()
def noise_inside_a_composite():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = layers.Conv2D(5, 3, activation="relu")(own.Noisy(6)(x))
    return keras.Model(inputs, zoo.head(x))


@awkward()
def dropout_inside_composites():
    inputs = zoo.image(12)
    x = own.DropBlock(6, name="a")(layers.Conv2D(8, 3, activation="relu")(inputs))
    x = own.DropBlock(5, name="b")(layers.Conv2D(6, 1, activation="relu")(x))
    x = layers.Conv2D(9, 3, activation="relu")(x)
    return keras.Model(inputs, zoo.head(layers.Conv2D(7, 3, activation="relu")(x)))


@awkward()
def subclassed_with_dropout():  # its call() does not hand on `training`
    model = own.SubclassedNet()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


@awkward()
def added_losses():
    """A layer that adds a loss in its call, and Keras's own."""
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = own.AddsLoss()(x)
    x = layers.ActivityRegularization(l2=0.1)(layers.Conv2D(6, 3, activation="relu")(x))
    return keras.Model(inputs, zoo.head(x))


# --- regularizers, constraints, initializers ------------------------------------------------------


@awkward()
def activity_regularizers():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu", activity_regularizer="l2")(inputs)
    x = layers.SeparableConv2D(7, 3, activation="sigmoid", activity_regularizer="l1")(x)
    x = layers.DepthwiseConv2D(3, activation="tanh", activity_regularizer="l2")(x)
    x = layers.Conv2D(6, 1, activity_regularizer="l1l2")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(activity_regularizer="l1")(x)
    x = layers.GlobalAveragePooling2D(activity_regularizer="l2")(x)
    x = layers.Dense(9, activation="softplus", activity_regularizer="l2")(x)
    return keras.Model(inputs, layers.Dense(3, "softmax", activity_regularizer="l2")(x))


@awkward()
def regularizers_of_sequences():
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(8, 2, kernel_regularizer="l2", activity_regularizer="l1")(inputs)
    x = layers.GRU(7, return_sequences=True, recurrent_regularizer="l1", kernel_regularizer="l2")(x)
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True, activity_regularizer="l2"))(x)
    x = layers.MultiHeadAttention(2, 3, kernel_regularizer="l2", activity_regularizer="l1")(x, x)
    x = layers.TimeDistributed(layers.Dense(6, "relu", activity_regularizer="l2"))(x)
    x = layers.EinsumDense("abc,cd->abd", (5, 5), bias_axes="d", kernel_regularizer="l2")(x)
    return keras.Model(inputs, layers.Dense(2, bias_regularizer="l2")(layers.Flatten()(x)))


@awkward()
def regularizers_of_weights():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, kernel_regularizer="l2", bias_regularizer="l1")(inputs)
    x = layers.BatchNormalization(gamma_regularizer="l1", beta_regularizer="l2")(x)
    x = layers.Conv2DTranspose(6, 3, activation="relu", kernel_regularizer="l1l2")(x)
    x = layers.PReLU(alpha_regularizer="l2", shared_axes=(1, 2))(x)
    x = layers.SeparableConv2D(5, 3, depthwise_regularizer="l2", pointwise_regularizer="l1")(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))(x))


@awkward()
def shared_layer_with_regularizers():
    a, b = keras.Input((6,)), keras.Input((6,))
    shared = layers.Dense(9, "relu", kernel_regularizer="l2", activity_regularizer="l1")
    x = layers.Subtract()([shared(a), shared(b)])
    return keras.Model([a, b], layers.Dense(2)(layers.Dense(7, "relu")(x)))


@awkward()
def constraints():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, kernel_constraint="non_neg", bias_constraint="unit_norm")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(gamma_constraint="non_neg")(x))
    x = layers.Conv2D(6, 3, activation="relu", kernel_constraint=keras.constraints.MaxNorm(1))(x)
    x = layers.DepthwiseConv2D(3, depthwise_constraint="unit_norm")(x)
    x = layers.Dense(9, "relu", kernel_constraint="unit_norm")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, kernel_constraint="max_norm")(x))


@awkward(inputs=lambda model, seed: ops.convert_to_tensor(_draw(seed).integers(0, 11, (4, 5))))
def initializers_that_are_arrays():
    matrix = _draw().normal(size=(11, 8)).astype("float32")
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8, embeddings_initializer=keras.initializers.Constant(matrix))(inputs)
    x = layers.Conv1D(6, 2, activation="relu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    start = keras.initializers.Constant(np.arange(7, dtype="float32"))
    x = layers.Dense(7, "relu", bias_initializer=start)(x)
    return keras.Model(inputs, layers.Dense(2)(x))


# --- names and functions --------------------------------------------------------------------------


def _head(name):
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(1)(x), name=name)


@awkward()
def nested_heads():
    inputs = zoo.image()
    x = layers.Dense(6, activation="relu")(zoo.head(zoo.conv_bn(inputs, 8), 7))
    return keras.Model(inputs, [_head("age")(x), _head("price")(x)])


@awkward()
def nested_heads_in_a_dict():
    inputs = {"picture": keras.Input((8, 8, 3), name="picture")}
    x = layers.Dense(6, activation="relu")(zoo.head(zoo.conv_bn(inputs["picture"], 8), 7))
    return keras.Model(inputs, {"years": _head("age")(x), "money": _head("price")(x)})


@awkward()
def names_that_collide():
    """Equal names in two nested models, and a layer called as a compactor would be."""

    def tower(name):
        inputs = zoo.image()
        x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
        return keras.Model(
            inputs, layers.Conv2D(5, 3, activation="relu", name="last")(x), name=name
        )

    inputs = zoo.image()
    x = layers.Add()([tower("left")(inputs), tower("right")(inputs)])
    x = layers.Conv2D(6, 1, activation="relu", name="conv")(x)
    x = layers.Conv2D(5, 1, activation="relu", name="conv_compactor")(x)
    return keras.Model(inputs, zoo.head(x))


@awkward()
def functions_as_settings():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation=own.wave)(inputs)
    x = layers.Conv2D(6, 3, activation=lambda x: ops.relu(x) * 0.5, kernel_regularizer=own.small)(x)
    return keras.Model(inputs, zoo.head(layers.Lambda(lambda x: x * 2.0)(x)))


# --- inputs of other kinds ------------------------------------------------------------------------


@awkward()
def optional_input():
    inputs = zoo.image()
    mask = keras.Input((6, 6, 1), optional=True, name="mask")
    x = own.MaybeTimes()(layers.Conv2D(8, 3, activation="relu")(inputs), mask)
    return keras.Model([inputs, mask], zoo.head(layers.Conv2D(6, 3, activation="relu")(x)))


@awkward()
def sparse_input():
    inputs = keras.Input((12,), sparse=True)
    x = layers.Dense(9, activation="relu")(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(7, activation="relu")(x)))


@awkward(
    inputs=lambda model, seed: [
        ops.convert_to_tensor(_draw(seed).integers(0, 200, (2, 8, 8, 3)), "uint8"),
        ops.convert_to_tensor(_draw(seed).integers(0, 9, (2, 4)), "int32"),
        ops.convert_to_tensor(_draw(seed).integers(0, 2, (2, 1)), "bool"),
    ]
)
def integer_inputs():
    pixels = keras.Input((8, 8, 3), dtype="uint8")
    tokens = keras.Input((4,), dtype="int32")
    flag = keras.Input((1,), dtype="bool")
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(pixels))
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Flatten()(layers.Embedding(9, 6)(tokens))
    x = layers.Concatenate()([x, y, ops.cast(flag, "float32")])
    return keras.Model([pixels, tokens, flag], layers.Dense(2)(layers.Dense(7, "relu")(x)))


@awkward(
    inputs=lambda model, seed: [
        ops.convert_to_tensor(_draw(seed).normal(size=(2, size, width)), "float32")
        for size, width in ((6, 4), (5, 3))
    ],
    input_shape=[(6, 4), (5, 3)],
)
def several_inputs_of_unknown_size():
    source, target = keras.Input((None, 4)), keras.Input((None, 3))
    _, h, c = layers.LSTM(7, return_state=True)(source)
    x = layers.LSTM(7, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], layers.Dense(3)(layers.Dense(6, activation="relu")(x)))


@awkward(
    inputs=lambda model, seed: ops.convert_to_tensor(_draw(seed).integers(0, 9, (2, 7))),
    input_shape=(7,),
)
def unknown_length():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 8)(inputs)
    x = layers.Conv1D(6, 3, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


# --- other axes, parts ----------------------------------------------------------------------------


@awkward()
def mixer():
    inputs = keras.Input((16, 6))
    x = layers.Dense(8)(inputs)
    y = layers.Permute((2, 1))(x)
    y = layers.Dense(16)(layers.Dense(12, activation="relu")(y))
    x = layers.Add()([x, layers.Permute((2, 1))(y)])
    y = layers.Dense(8)(layers.Dense(10, activation="gelu")(x))
    x = layers.GlobalAveragePooling1D()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(3)(x))


@awkward()
def efficient_channel_attention():
    inputs = zoo.image()
    x = zoo.conv_bn(inputs, 8)
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Conv1D(1, 3, padding="same", use_bias=False)(layers.Reshape((8, 1))(y))
    y = layers.Activation("sigmoid")(layers.Reshape((1, 1, 8))(y))
    x = layers.Multiply()([x, y])
    return keras.Model(inputs, zoo.head(layers.Conv2D(6, 3, activation="relu")(x)))


@awkward()
def split_into_parts():
    inputs = zoo.image()
    a, b = ops.split(layers.Conv2D(8, 1)(inputs), 2, axis=-1)
    a = layers.Conv2D(4, 3, activation="relu")(a)
    b = layers.Conv2D(5, 3, activation="relu")(b)
    return keras.Model(inputs, zoo.head(layers.Concatenate()([a, b])))


@awkward()
def dot_and_attention():
    inputs = keras.Input((8, 6))
    q, k, v = (layers.Dense(7, use_bias=False)(inputs) for _ in range(3))
    x = layers.Attention(use_scale=True)([q, v, k])
    y = layers.AdditiveAttention()([q, v, k])
    x = layers.Dense(9, activation="relu")(layers.Concatenate()([x, y]))
    p, r = layers.Dense(5)(x), layers.Dense(5)(inputs)
    return keras.Model(inputs, [layers.Dense(2)(x), layers.Dot((2, 2))([p, r])])


# --- numbers --------------------------------------------------------------------------------------


@awkward()
def saturated_head():
    inputs = zoo.image()
    x = layers.Conv2D(6, 3, activation="relu")(zoo.conv_bn(inputs, 8))
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Softmax()(layers.Rescaling(1e4)(x)))


@awkward(inputs=_positive)
def logarithm_of_the_input():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu")(ops.log(inputs))
    x = layers.Conv2D(6, 3, activation="relu")(ops.sqrt(x))
    return keras.Model(inputs, zoo.head(x))


@awkward(tolerance=5e-2)
def policies_by_layer():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3, activation="relu", dtype="mixed_bfloat16")(inputs)
    x = layers.BatchNormalization(dtype="float32")(x)
    x = layers.Conv2D(6, 3, activation="relu", dtype="float32")(x)
    x = layers.Dense(7, "relu", dtype="mixed_bfloat16")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


@awkward()
def noise_and_masks():
    """All that draws random numbers in training, and masks that pass by."""
    inputs = keras.Input((6, 4))
    x = layers.GaussianNoise(0.1)(layers.Masking(0.0)(inputs))
    x = layers.GRU(7, dropout=0.2, recurrent_dropout=0.1, return_sequences=True)(x)
    x = layers.SpatialDropout1D(0.2)(layers.AlphaDropout(0.1)(x))
    x = layers.MultiHeadAttention(2, 3, dropout=0.2)(x, x)
    x = layers.GaussianDropout(0.1)(layers.Dense(6, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@awkward(inputs=lambda model, seed: ops.convert_to_tensor(_draw(seed).normal(size=(3, 6, 4))))
def state_of_a_recurrent_layer():
    inputs = keras.Input(batch_shape=(3, 6, 4))
    x = layers.LSTM(7, stateful=True, return_sequences=True)(inputs)
    x = layers.Dense(6, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@awkward()
def spectral_normalization():
    inputs = zoo.image()
    x = layers.SpectralNormalization(layers.Conv2D(8, 3, activation="relu"))(inputs)
    x = layers.Conv2D(6, 3, activation="relu")(x)
    return keras.Model(inputs, layers.SpectralNormalization(layers.Dense(3))(layers.Flatten()(x)))


@awkward()
def batch_norms_of_their_own():
    inputs = zoo.image()
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.BatchNormalization(momentum=0.5, epsilon=0.1, center=False)(x)
    x = layers.Conv2D(6, 3)(layers.LeakyReLU(0.3)(x))
    x = layers.BatchNormalization(momentum=0.1, scale=False)(x)
    return keras.Model(inputs, zoo.head(layers.ELU(0.7)(x)))


# --- weights that compute by other weights --------------------------------------------------------


@awkward()
def lora():
    inputs = keras.Input((6,))
    adapted = layers.Dense(9, activation="relu", name="adapted")
    x = layers.Dense(7, "relu")(adapted(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(x)))
    adapted.enable_lora(2)
    return model


@awkward(tolerance=1e-4)
def quantized():
    inputs = keras.Input((6,))
    x = layers.Dense(7, "relu")(layers.Dense(9, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(x)))
    model.layers[1].quantize("int8")
    return model
