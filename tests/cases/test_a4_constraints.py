"""No constraint moves changed weights: it holds, or is dropped and told, in training, too."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras as rk
from resrep_keras.methods.channels.channel_state import ChannelState
from tests.helpers import kill, random_keep, scramble
from tests.sampling import sample

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
    "both directions": lambda: sequence(
        layers.Bidirectional(
            layers.SimpleRNN(8, return_sequences=True, kernel_constraint="unit_norm"), name="both"
        )
    ),
    "at each time": lambda: sequence(
        layers.TimeDistributed(layers.Dense(8, kernel_constraint="unit_norm", name="inner"))
    ),
}


# What of each goes when compactors are folded and channels removed, and when channels are chosen.
FOLDED = {
    "non_neg and norm": {},
    "unit_norm": {"conv": ["kernel_constraint"], "next": ["kernel_constraint"]},
    "gamma": {},
    "recurrent": {"lstm": ["kernel_constraint"]},
    "both directions": {"both": ["kernel_constraint"]},
    "at each time": {"inner": ["kernel_constraint"]},
}
CHOSEN = {
    "at each time": {"inner": ["kernel_constraint"]},
    "unit_norm": {"next": ["kernel_constraint"]},
    "recurrent": {"lstm": ["kernel_constraint"]},
    "both directions": {"both": ["kernel_constraint"]},
}


def by_layer(dropped):
    found = {}
    for layer, setting in dropped:
        found.setdefault(layer, []).append(setting)
    return found


def told(of_what):
    """A context in which it is told that constraints go, or nothing is."""
    if of_what:
        return pytest.warns(UserWarning, match=f"{next(iter(of_what.values()))[0]} of layer ")
    return contextlib.nullcontext()


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


@pytest.mark.parametrize("name", sample([*MODELS]))
def test_steps_at_rate_zero_change_nothing(name):
    dense = MODELS[name]()
    trained_for_nothing(dense)  # weights meet their constraints
    wrapped = rk.wrap(dense, rk.ResRep(0.01))
    scramble(wrapped)
    state = ChannelState(wrapped)
    kill(wrapped, random_keep(state.graph, state.groups, 0), state)
    wrapped.method = None
    with told(FOLDED[name]):
        slim = rk.finalize(wrapped, strict=True)
    before, after = trained_for_nothing(slim)
    np.testing.assert_allclose(before, after, atol=1e-4 * np.abs(before).max())
    assert by_layer(slim.certificate.dropped) == FOLDED[name]


@pytest.mark.parametrize("name", sample([*MODELS], first=1))
def test_a_choice_of_channels_changes_nothing(name):
    dense = MODELS[name]()
    trained_for_nothing(dense)
    with told(CHOSEN.get(name)):
        slim = rk.MagnitudePruning(0.2).prune(dense, strict=True)
    before, after = trained_for_nothing(slim)
    np.testing.assert_allclose(before, after, atol=1e-4 * np.abs(before).max())
    assert by_layer(slim.certificate.dropped) == CHOSEN.get(name, {})


def test_what_is_dropped_is_named_and_what_holds_is_kept():
    dense = MODELS["non_neg and norm"]()
    trained_for_nothing(dense)
    slim = rk.MagnitudePruning(0.2).prune(dense, strict=True)
    assert slim.certificate.dropped == ()
    assert slim.get_layer("conv").kernel_constraint is not None
    wrapped = rk.wrap(dense, rk.ResRep(0.01, compactor="full"))
    scramble(wrapped)
    wrapped.method = None
    with pytest.warns(UserWarning, match="kernel_constraint of layer 'conv'. Their weights do not"):
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
    with pytest.warns(UserWarning, match="kernel_constraint of layer 'spectral'"):
        slim = rk.finalize(wrapped, strict=True)
    assert slim.certificate.dropped == (("spectral", "kernel_constraint"),)
    assert slim.get_layer("spectral").layer.kernel_constraint is None


# --- while fit runs ------------------------------------------------------------------------------


class Watch(keras.callbacks.Callback):
    """Notes how far the weights of layers are from their constraints, and whether these act."""

    def __init__(self, *names):
        super().__init__()
        self.names, self.far, self.acting = names, [], []

    def on_epoch_end(self, epoch, logs=None):
        for name in self.names:
            layer = self.model.get_layer(name)
            kernel = keras.ops.convert_to_numpy(layer.kernel)
            after = keras.ops.convert_to_numpy(layer.kernel_constraint(layer.kernel))
            self.far.append(np.abs(after - kernel).max())
            self.acting.append(layer.kernel.constraint is not None)


# Under which what has a constraint is among what goes; by the loss, other channels may go alone.
BY_NORMS = {"score": "norm", "guard": 0, "compactor_rate": 1}


def fit(method, constraint, epochs=8):
    dense = images(
        conv("conv", activation=None, kernel_constraint=constraint),
        norm(),
        layers.ReLU(),
        conv("next", kernel_constraint=constraint),
        conv("last"),
    )
    wrapped = rk.wrap(dense, method)
    wrapped.compile(keras.optimizers.SGD(0.01), "mse")
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3))
    watch = Watch("conv", "next")
    wrapped.fit(x, x.mean((1, 2))[:, :2], 8, epochs, 0, callbacks=[watch])
    assert all(watch.acting) and max(watch.far) <= 1e-5
    return wrapped


@pytest.mark.parametrize(
    "constraint", ["non_neg", keras.constraints.MaxNorm(1, [0, 1, 2])], ids=["non_neg", "max_norm"]
)
def test_channels_leave_in_training_where_constraints_hold(constraint):
    wrapped = fit(rk.ResRep(0.5, slim_every=1), constraint)
    assert wrapped.baseline.removal.differences
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slim = rk.finalize(wrapped, strict=True)
    assert slim.certificate.dropped == ()
    assert slim.get_layer("conv").kernel_constraint is not None


@pytest.mark.parametrize(
    ("constraint", "settings"),
    [("non_neg", {"compactor": "full"}), (UNIT, {})],
    ids=["full", "unit"],
)
def test_channels_stay_in_training_where_constraints_would_not_hold(constraint, settings):
    with pytest.warns(UserWarning, match="not removed in training: kernel_constraint of '"):
        wrapped = fit(rk.ResRep(0.5, slim_every=1, **BY_NORMS, **settings), constraint)
    assert not wrapped.baseline.removal.differences
    with pytest.warns(UserWarning, match="kernel_constraint of layer 'next'"):
        slim = rk.finalize(wrapped, strict=True)
    assert slim.certificate.macs_left <= 0.5


def test_units_leave_a_gated_layer_in_training_where_its_constraints_hold():
    lstm = layers.LSTM(8, return_sequences=True, kernel_constraint="unit_norm", name="lstm")
    wrapped = rk.wrap(sequence(lstm), rk.ResRep(0.3, slim_every=1, **BY_NORMS))
    wrapped.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(32, 5, 6))
    with pytest.warns(UserWarning, match="not removed in training: kernel_constraint of 'lstm'"):
        wrapped.fit(x, x[:, 0, :2], epochs=6, batch_size=4, verbose=0)
    assert wrapped.get_layer("lstm").layer.kernel_constraint is not None


# --- set on variables ----------------------------------------------------------------------------


def test_what_is_set_on_a_variable_is_handed_on():
    """By `layer.kernel.constraint = ...`, of which no setting of the layer tells."""
    dense = images(conv("conv"), conv("next"))
    for name in ("conv", "next"):
        layer = dense.get_layer(name)
        layer.kernel.assign(abs(layer.kernel))
        layer.kernel.constraint = keras.constraints.NonNeg()
        layer.kernel.regularizer = keras.regularizers.L2(1e-2)
    slim = rk.MagnitudePruning(0.2).prune(dense, strict=True)
    assert slim.certificate.dropped == ()
    for name in ("conv", "next"):
        assert slim.get_layer(name).kernel.constraint is dense.get_layer(name).kernel.constraint
    kernels = [slim.get_layer(name).kernel for name in ("conv", "next")]
    expected = sum(1e-2 * float(keras.ops.sum(kernel**2)) for kernel in kernels)
    np.testing.assert_allclose(float(sum(slim.losses)), expected, rtol=1e-6)


def test_what_is_set_on_a_variable_and_broken_is_told():
    dense = images(conv("conv"), conv("next"))
    dense.get_layer("next").kernel.constraint = UNIT
    trained_for_nothing(dense)
    with pytest.warns(UserWarning, match="constraint of kernel of layer 'next'"):
        slim = rk.MagnitudePruning(0.2).prune(dense, strict=True)
    assert slim.get_layer("next").kernel.constraint is None
