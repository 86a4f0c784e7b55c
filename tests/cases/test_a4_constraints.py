"""No constraint moves the weights of a slim model: it holds, or is dropped and named."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras as rk
from resrep_keras.methods.channels.channel_state import ChannelState
from tests.helpers import kill, random_keep, scramble

UNIT = keras.constraints.UnitNorm(axis=[0, 1, 2])


def images(*made):
    x = inputs = keras.Input((8, 8, 3))
    for layer in made:
        x = layer(x)
    outputs = layers.Dense(2, kernel_constraint="non_neg", name="head")
    return keras.Model(inputs, outputs(layers.GlobalAveragePooling2D()(x)))


def conv(name, **given):
    return layers.Conv2D(8, 3, name=name, **{"activation": "relu", **given})


def norm(**given):
    return layers.BatchNormalization(name="norm", **given)


def sequence(layer):
    inputs = keras.Input((5, 6))
    x = layers.GlobalAveragePooling1D()(layer(layers.Dense(8, activation="relu")(inputs)))
    return keras.Model(inputs, layers.Dense(2)(x))


MODELS = {
    "non_neg and norm": lambda: images(
        conv("conv", activation=None, kernel_constraint="non_neg"), norm(), layers.ReLU()
    ),
    "unit_norm": lambda: images(
        conv("conv", kernel_constraint=UNIT, bias_constraint="max_norm"),
        conv("next", kernel_constraint=UNIT),
    ),
    "gamma": lambda: images(
        conv("conv"),
        layers.DepthwiseConv2D(3, depthwise_constraint="max_norm", name="depthwise"),
        norm(gamma_constraint="non_neg", beta_constraint="non_neg"),
        layers.Activation("sigmoid"),
        conv("next", padding="same"),
    ),
    "recurrent": lambda: sequence(
        layers.LSTM(
            8, return_sequences=True, kernel_constraint="unit_norm", recurrent_constraint="max_norm"
        )
    ),
    "at each time": lambda: sequence(
        layers.TimeDistributed(layers.Dense(8, kernel_constraint="non_neg", name="inner"))
    ),
}


def trained_for_nothing(model):
    """Outputs before and after steps at learning rate 0; statistics stay as they are."""
    x = np.random.default_rng(0).normal(size=(16, *model.input_shape[1:]))
    before = model.predict(x, verbose=0)
    state = [(v, keras.ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, np.zeros((16, 2)), epochs=1, verbose=0)
    for variable, value in state:
        variable.assign(value)
    return before, model.predict(x, verbose=0)


@pytest.mark.parametrize("name", MODELS)
def test_steps_at_rate_zero_change_nothing(name):
    dense = MODELS[name]()
    trained_for_nothing(dense)  # weights meet their constraints
    wrapped = rk.wrap(dense, rk.ResRep(0.01))
    scramble(wrapped)
    state = ChannelState(wrapped)
    kill(wrapped, random_keep(state.graph, state.groups, 0), state)
    wrapped.method = None
    slim = rk.finalize(wrapped, strict=True)
    before, after = trained_for_nothing(slim)
    np.testing.assert_allclose(before, after, atol=1e-4 * np.abs(before).max())
    assert bool(slim.certificate.dropped) == (name != "gamma")  # where all that was folded holds


@pytest.mark.parametrize("name", MODELS)
def test_a_choice_of_channels_changes_nothing(name):
    dense = MODELS[name]()
    trained_for_nothing(dense)
    slim = rk.MagnitudePruning(0.2).prune(dense, strict=True)
    before, after = trained_for_nothing(slim)
    np.testing.assert_allclose(before, after, atol=1e-4 * np.abs(before).max())


def test_what_is_dropped_is_named_and_what_holds_is_kept():
    dense = MODELS["non_neg and norm"]()
    trained_for_nothing(dense)
    slim = rk.MagnitudePruning(0.2).prune(dense, strict=True)
    assert slim.certificate.dropped == ()
    assert slim.get_layer("conv").kernel_constraint is not None
    wrapped = rk.wrap(dense, rk.ResRep(0.01))
    scramble(wrapped)
    wrapped.method = None
    folded = rk.finalize(wrapped, strict=True)
    assert folded.certificate.dropped == (("conv", "kernel_constraint"),)
    assert folded.get_layer("conv").kernel_constraint is None
    assert folded.get_layer("conv").kernel.constraint is None
    assert folded.get_layer("head").kernel_constraint is not None


def test_a_spectral_normalisation_drops_that_of_its_layer():
    wrapped_conv = layers.SpectralNormalization(
        conv("conv", kernel_constraint="non_neg"), name="spectral"
    )
    wrapped = rk.wrap(images(wrapped_conv, conv("next")), rk.ResRep(0.01))
    scramble(wrapped)
    wrapped.method = None
    slim = rk.finalize(wrapped, strict=True)
    assert slim.certificate.dropped == (("spectral", "kernel_constraint"),)
    assert slim.get_layer("spectral").layer.kernel_constraint is None
