"""Gated: what is scaled inside a layer, and how it trains."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.layers.gated import Gated
from tests import helpers, zoo

UNITS = [
    (layers.LSTM, {}),
    (layers.GRU, {}),
    (layers.GRU, {"reset_after": False}),
    (layers.SimpleRNN, {}),
]


def built(layer, shape=(2, 5, 3)):
    layer(np.zeros(shape, "float32"))
    generator = np.random.default_rng(0)
    layer.set_weights([generator.normal(0, 0.5, w.shape) for w in layer.weights])
    return layer


def sequence(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 5, 3)).astype("float32")


@pytest.mark.parametrize(("kind", "settings"), UNITS)
def test_a_unit_behind_a_closed_gate_is_zero_at_every_step(kind, settings):
    gated = Gated(built(kind(4, return_sequences=True, **settings)), {"units": 4})
    gated.gates["units"].kernel.assign([1.0, 0.0, 0.5, 0.0])
    out = ops.convert_to_numpy(gated(sequence()))
    assert (out[..., [1, 3]] == 0).all()
    assert (np.abs(out[..., [0, 2]]) > 0).all()


@pytest.mark.parametrize(("kind", "settings"), UNITS)
def test_open_gates_change_nothing(kind, settings):
    layer = built(kind(4, **settings))
    expected = ops.convert_to_numpy(layer(sequence()))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(Gated(layer, {"units": 4})(sequence())), expected
    )


def test_config_round_trip():
    gated = Gated(built(layers.GRU(4)), {"units": 4}, name="g")
    config = gated.get_config()
    revived = Gated.from_config(config)
    assert revived.get_config() == config
    assert revived.gates["units"].name == "g_units_compactor"


def test_a_layer_without_a_rule_is_named():
    with pytest.raises(ValueError, match=r"Dense 'd' has no rule for gates.*register\(Dense\)"):
        Gated(built(layers.Dense(3, name="d")), {"units": 3})(sequence())


GATED = ("recurrent", "attention", "embedding", "time_distributed")
# Compiling their operations anew in another precision takes most of the time of the JAX tests.
LONG_ON_JAX = ("recurrent", "attention", "time_distributed")
SLOW = ("embedding", *LONG_ON_JAX[1:]) if keras.backend.backend() == "jax" else ()
PAIRS = [
    *(
        pytest.param(name, "float32", marks=pytest.mark.slow if name in SLOW else ())
        for name in GATED
    ),
    *(
        pytest.param(
            name,
            "mixed_bfloat16",
            marks=pytest.mark.tensorflow_only if name in GATED[::4] else pytest.mark.slow,
        )
        for name in GATED
    ),
]


@pytest.mark.parametrize("name, policy", PAIRS)
def test_gates_forget_in_fit(name, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        dense = zoo.build(name)
        # By norms, which all begin alike, so that gates are among what goes.
        method = resrep_keras.ResRep(0.3, coupled=True, score="norm", guard=0)
        wrapped = resrep_keras.wrap(dense, method)
        wrapped.compile(keras.optimizers.Adam(1e-3), "mse")
        x = helpers.example_inputs(dense, batch_size=8)
        y = np.zeros((8, *dense.output.shape[1:]), "float32")
        wrapped.fit(x, y, batch_size=4, epochs=6, verbose=0)
        slim = resrep_keras.finalize(wrapped, strict=True)
    finally:
        keras.config.set_dtype_policy(before)
    assert slim.certificate.macs_left <= 0.7
    gates = [
        g for layer in wrapped.layers if isinstance(layer, Gated) for g in layer.gates.values()
    ]
    assert any((gate.column_norms() == 0).any() for gate in gates)


def test_random_states_move_on_inside_a_gate():
    """Dropout inside a gated layer draws anew at each step."""
    x = inputs = keras.Input((5, 3))
    x = layers.LSTM(6, dropout=0.5, seed=1)(x)
    wrapped = resrep_keras.wrap(keras.Model(inputs, layers.Dense(2)(x)), resrep_keras.ResRep(0.2))
    first, second = (ops.convert_to_numpy(wrapped(sequence(), training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0


def test_the_objective_does_not_reach_a_masked_gate():
    method = resrep_keras.ResRep(0.2, compactor_rate=1)
    wrapped = resrep_keras.wrap(zoo.build("recurrent"), method)
    gate = next(
        g for layer in wrapped.layers if isinstance(layer, Gated) for g in layer.gates.values()
    )
    gate.keep_mask.assign(np.arange(gate.kernel.shape[0]) > 0)
    wrapped.compile("sgd", "mse")
    before = ops.convert_to_numpy(gate.kernel)
    wrapped.optimizer.build(wrapped.trainable_variables)
    strength = wrapped.method.penalty_strength
    x = helpers.example_inputs(wrapped, batch_size=8)
    wrapped.train_on_batch(x, np.ones((8, 2), "float32"))
    moved = before - ops.convert_to_numpy(gate.kernel)
    rate = float(ops.convert_to_numpy(wrapped.optimizer.learning_rate))
    # The penalty's alone; a step of 1e-6 away from 1 is rounded by up to 6 % in float32.
    np.testing.assert_allclose(moved[0], rate * strength, rtol=0.07)
    assert (np.abs(moved[1:]) > 2 * rate * strength).any()


def test_a_stateful_layer_goes_on_from_its_state():
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    plain = keras.layers.LSTM(5, stateful=True)
    plain(x)
    layer = Gated(plain, {"units": 5})
    plain.reset_state()
    found = [ops.convert_to_numpy(layer(x)) for _ in range(2)]
    plain.reset_state()
    expected = [ops.convert_to_numpy(plain(x)) for _ in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_tensors_that_are_given_by_name_beside_settings():
    inputs = keras.Input((5, 6))
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x = attention(query=inputs, value=inputs, key=inputs, use_causal_mask=True)
    model = zoo.randomise(keras.Model(inputs, layers.Dense(2)(x)), 0)
    wrapped = resrep_keras.wrap(model)
    assert isinstance(wrapped.get_layer("attention"), Gated)
    assert helpers.difference(model, wrapped) <= 1e-6
