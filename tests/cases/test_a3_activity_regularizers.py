"""What is asked of a layer's outputs goes where its activation goes: losses stay equal."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras as rk
from resrep_keras.methods.channels.channel_state import ChannelState
from tests.helpers import difference, kill, random_keep, scramble

L2 = "l2"  # 0.01 * sum(x ** 2)


def image_model(make, channels_first=False):
    """`make` between a convolution and one that reads it."""
    data_format = "channels_first" if channels_first else "channels_last"
    inputs = keras.Input((3, 8, 8) if channels_first else (8, 8, 3))
    x = layers.Conv2D(6, 1, activation="relu", name="stem", data_format=data_format)(inputs)
    for layer in make(data_format):
        x = layer(x)
    x = layers.Conv2D(4, 1, activation="relu", name="reader", data_format=data_format)(x)
    x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def conv(activation="relu", **given):
    return layers.Conv2D(8, 3, activation=activation, name="conv", **given)


def one(data_format):
    return [conv(activity_regularizer=L2, data_format=data_format)]


def linear(data_format):
    return [conv(None, activity_regularizer=L2, data_format=data_format), layers.ReLU()]


def separate(data_format):
    return [
        conv(None, data_format=data_format),
        layers.Activation("relu", activity_regularizer=L2),
    ]


def before_norm(data_format):
    """The loss is asked of what the normalisation reads."""
    axis = 1 if data_format == "channels_first" else -1
    return [
        conv(None, activity_regularizer=L2, data_format=data_format),
        layers.BatchNormalization(axis=axis, name="norm"),
        layers.ReLU(),
    ]


def behind_norm(data_format):
    axis = 1 if data_format == "channels_first" else -1
    return [
        conv(None, use_bias=False, data_format=data_format),
        layers.BatchNormalization(axis=axis, activity_regularizer=L2, name="norm"),
        layers.ReLU(),
    ]


def depthwise(data_format):
    return [
        conv(data_format=data_format),
        layers.DepthwiseConv2D(
            3, activation="relu", activity_regularizer=L2, data_format=data_format
        ),
        layers.BatchNormalization(axis=1 if data_format == "channels_first" else -1),
        layers.ReLU(),
    ]


def spectral_inside(data_format):
    return [layers.SpectralNormalization(conv(activity_regularizer=L2, data_format=data_format))]


def spectral_outside(data_format):
    wrapped = conv(data_format=data_format)
    return [layers.SpectralNormalization(wrapped, activity_regularizer=L2)]


def spectral_both(data_format):
    wrapped = conv(activity_regularizer=L2, data_format=data_format)
    return [layers.SpectralNormalization(wrapped, activity_regularizer=L2)]


def shared(data_format):
    layer = layers.Conv2D(
        6, 1, activation="relu", activity_regularizer=L2, data_format=data_format, name="conv"
    )
    return [layer, layer]


IMAGES = [
    one,
    linear,
    separate,
    before_norm,
    behind_norm,
    depthwise,
    spectral_inside,
    spectral_outside,
    spectral_both,
    shared,
]


def sequence_model(*made):
    inputs = keras.Input((5, 6))
    x = inputs
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


def attention():
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, name="stem")(inputs)
    x = layers.MultiHeadAttention(4, 4, activity_regularizer=L2, name="attention")(x, x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


SEQUENCES = {
    "lstm": lambda: sequence_model(
        layers.LSTM(8, return_sequences=True, activity_regularizer=L2, name="lstm")
    ),
    "both directions": lambda: sequence_model(
        layers.Bidirectional(
            layers.GRU(8, return_sequences=True, activity_regularizer=L2, name="gru")
        )
    ),
    "both directions outside": lambda: sequence_model(
        layers.Bidirectional(layers.GRU(8, return_sequences=True), activity_regularizer=L2)
    ),
    "at each time": lambda: sequence_model(
        layers.TimeDistributed(
            layers.Dense(8, activation="relu", activity_regularizer=L2, name="inner")
        )
    ),
    "at each time outside": lambda: sequence_model(
        layers.TimeDistributed(
            layers.Dense(8, activation="relu", name="inner"), activity_regularizer=L2
        )
    ),
    "at each time nested": lambda: sequence_model(
        layers.TimeDistributed(
            keras.Sequential(
                [
                    keras.Input((6,)),
                    layers.Dense(8, activation="relu", activity_regularizer=L2, name="inner"),
                ]
            )
        )
    ),
}


def activity(model, x):
    """What a model adds to the loss for a batch."""
    model(x)
    return sum(float(loss) for loss in model.losses)


def batch(model):
    shape = (4, *model.input_shape[1:])
    return ops.convert_to_tensor(np.random.default_rng(0).normal(size=shape), "float32")


def check_losses(dense):
    """Losses of dense, wrapped and slim model, the columns of the wrapped one mixed and dead."""
    x = batch(dense)
    wrapped = rk.wrap(dense, rk.ResRep(0.01, coupled=True))
    expected = activity(dense, x)
    assert activity(wrapped, x) == pytest.approx(expected, rel=1e-5)
    scramble(wrapped)
    channel_state = ChannelState(wrapped)
    kept = random_keep(channel_state.graph, channel_state.groups, 0)
    assert not kept.all()
    kill(wrapped, kept, channel_state)
    wrapped.method = None
    slim = rk.finalize(wrapped, strict=True)
    assert activity(slim, x) == pytest.approx(activity(wrapped, x), rel=1e-4)
    return expected, slim


@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__)
def test_losses_of_images(make):
    expected, _ = check_losses(image_model(make))
    assert expected > 0.01


@pytest.mark.parametrize("name", SEQUENCES)
def test_losses_of_sequences(name):
    expected, _ = check_losses(SEQUENCES[name]())
    # Keras passes by the regulariser of the layer inside, whose `call` it runs.
    assert (expected > 1e-3) == (name != "at each time")


def test_losses_of_attention():
    """Each of its four layers has the regulariser; what is closed by a gate is gone in one."""
    dense = attention()
    wrapped = rk.wrap(dense, rk.ResRep(0.01))
    x = batch(dense)
    assert activity(wrapped, x) == pytest.approx(activity(dense, x), rel=1e-5)
    assert activity(dense, x) > 1e-3


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA on CPU: channels last")
def test_losses_of_channels_first():
    wrapped = rk.wrap(image_model(before_norm, True), rk.ResRep(0.01))
    assert wrapped.get_layer("conv").activity_regularizer is None
    assert wrapped.get_layer("conv_compactor").activity_regularizer is not None


def test_what_a_compactor_asks_comes_back():
    _, slim = check_losses(image_model(one))
    assert slim.get_layer("conv").activity_regularizer.l2 == pytest.approx(0.01)
    assert slim.get_layer("conv").activation is keras.activations.relu


@pytest.mark.parametrize(
    "method",
    [rk.ResRep(0.3), rk.AOFP(0.3, max_damage=0.9), rk.MagnitudePruning(0.3, at=0.5)],
    ids=lambda method: type(method).__name__,
)
def test_fit_reports_the_loss_of_the_dense_model(method):
    """At learning rate 0, each step's loss is that of the dense model."""
    dense = image_model(one)
    x, y = np.random.default_rng(0).normal(size=(32, 8, 8, 3)), np.zeros((32, 2))
    dense.compile(keras.optimizers.SGD(0.0), "mse")
    wrapped = rk.wrap(dense, method)
    expected = dense.evaluate(x, y, verbose=0)
    # The first step comes before anything is selected.
    losses = wrapped.fit(x, y, batch_size=32, epochs=60, verbose=0).history["loss"]  # a step each
    assert losses[0] == pytest.approx(expected, rel=1e-4)


def test_early_removal_keeps_the_loss():
    dense = image_model(one)
    x, y = np.random.default_rng(0).normal(size=(64, 8, 8, 3)), np.zeros((64, 2))
    wrapped = rk.wrap(dense, rk.ResRep(0.4, slim_every=1))
    wrapped.compile(keras.optimizers.SGD(1e-3), "mse")
    wrapped.fit(x, y, batch_size=8, epochs=10, verbose=0)
    assert wrapped.count_params() < dense.count_params()
    slim = rk.finalize(wrapped, strict=True)
    batch_ = ops.convert_to_tensor(x[:4], "float32")
    assert activity(slim, batch_) == pytest.approx(activity(wrapped, batch_), rel=1e-4)
    assert activity(slim, batch_) > 0


def test_gradient_pruners_leave_the_loss_alone():
    dense = image_model(before_norm)
    wrapped = rk.wrap(dense, rk.ActivationGradientPruning(0.9))
    x = batch(dense)
    assert activity(wrapped, x) == pytest.approx(activity(dense, x), rel=1e-6)
    assert activity(rk.finalize(wrapped), x) == pytest.approx(activity(dense, x), rel=1e-6)


def test_prune_keeps_the_loss_of_the_layer():
    dense = image_model(one)
    slim = rk.MagnitudePruning(0.3).prune(dense)
    assert difference(dense, dense) == 0
    assert slim.get_layer("conv").activity_regularizer is not None
    assert activity(slim, batch(dense)) > 0
