"""Attention layers: heads and widths."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.flow import rule_of
from resrep_keras.layers.gated import Gated
from resrep_keras.surgery.channel_weights import producing_variable
from resrep_keras.surgery.narrow import Part, narrow
from resrep_keras.surgery.outputs import Selected
from tests import zoo
from tests.rules.calls import SEQUENCE, Answer, built, mask, part


def sequence(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 5, 3)).astype("float32")


def test_heads_and_widths_have_groups_of_their_own():
    graph = resrep_keras.trace(zoo.build("attention"))
    group = graph.group("multi_head_attention.heads")
    assert group.size == 4 and group.sites[0].inside == "heads"
    width = "width" if keras.backend.backend() == "jax" else "value"
    assert graph.group(f"multi_head_attention.{width}").size == zoo.VALUE_WIDTH


@pytest.mark.tensorflow_only
def test_attention_gates_close_heads_and_widths():
    layer = layers.MultiHeadAttention(2, 3, value_dim=4, use_bias=False)
    x = sequence()
    layer(x, x)
    gated = Gated(layer, {"heads": 2, "key": 3, "value": 4})
    whole = ops.convert_to_numpy(gated(x, x))
    np.testing.assert_allclose(whole, ops.convert_to_numpy(layer(x, x)), rtol=1e-6)
    for name, channels in (("heads", 2), ("value", 4)):
        gated.gates[name].kernel.assign(np.zeros(channels))
        assert (ops.convert_to_numpy(gated(x, x)) == 0).all()
        gated.gates[name].kernel.assign(np.ones(channels))
    gated.gates["key"].kernel.assign(np.zeros(3))  # all scores equal: the mean over time
    out = ops.convert_to_numpy(gated(x, x))
    np.testing.assert_allclose(out, out.mean(axis=1, keepdims=True) * np.ones_like(out), 1e-4, 1e-6)


def test_query_and_key_are_compared_channel_by_channel():
    answer = Answer(layers.Attention(), SEQUENCE, SEQUENCE)
    assert answer.graph.num_channels == 3 and answer.ids() == [0, 1, 2]


def test_a_value_of_its_own_has_its_own_channels():
    answer = Answer(layers.Attention(), SEQUENCE, SEQUENCE, SEQUENCE)
    assert answer.graph.num_channels == 6 and answer.ids() == [3, 4, 5]


def test_the_scale_of_additive_attention_has_an_entry_for_each_channel():
    layer = layers.AdditiveAttention()
    layer.build([(None, 5, 3), (None, 5, 3)])
    _, (scale,) = rule_of(narrow, layer)(layer, part(mask(1, 0, 1), None))
    assert scale.shape == (2,)


def attention_call(layer):
    query, value = keras.Input((5, 6)), keras.Input((8, 7))
    model = keras.Model([query, value], layer(query, value))
    return resrep_keras.trace(model).calls[-1]


@pytest.mark.parametrize("score_mode", ["dot", "concat"])
def test_the_scale_of_attention_is_one_number_for_all_channels(score_mode):
    query, other = keras.Input((5, 4)), keras.Input((5, 4))
    attention = layers.Attention(use_scale=True, score_mode=score_mode)
    x = attention([layers.Dense(6)(query), layers.Dense(7)(other), layers.Dense(6)(other)])
    model = zoo.randomise(keras.Model([query, other], layers.Dense(2)(x)))
    slim = resrep_keras.MagnitudePruning(0.2, coupled=True).prune(model)
    (scale, *_), (left, *_) = (m.get_layer(attention.name).get_weights() for m in (model, slim))
    assert scale == left and resrep_keras.count_macs(slim) < resrep_keras.count_macs(model)


def test_scores_keep_their_scale_with_a_narrower_key():
    """2 heads; of 4 entries of a key one is left: Keras divides by 1 in the place of 2."""
    layer = layers.MultiHeadAttention(2, 4, value_dim=3, use_bias=False)
    call = attention_call(layer)
    inside = {"heads": mask(1, 0), "key": mask(1, 0, 0, 0), "value": mask(1, 1, 0)}
    keep = Part(
        (np.ones(6, bool), np.ones(7, bool)), Selected(np.ones(6, bool)), inside=inside, call=call
    )
    config, weights = rule_of(narrow, layer)(layer, keep)
    assert config == {"output_shape": 6, "num_heads": 1, "key_dim": 1, "value_dim": 2}
    old = {w.path.split("/")[-2]: ops.convert_to_numpy(w) for w in layer.weights}
    new = dict(zip([w.path.split("/")[-2] for w in layer.weights], weights))
    np.testing.assert_allclose(new["query"], old["query"][:, :1, :1] / 2, rtol=1e-6)
    np.testing.assert_array_equal(new["key"], old["key"][:, :1, :1])
    np.testing.assert_array_equal(new["value"], old["value"][:, :1, :2])
    np.testing.assert_array_equal(new["attention_output"], old["attention_output"][:1, :2])


@pytest.mark.parametrize(
    ("inside", "name", "axis"),
    [
        (None, "attention_output", 2),
        ("heads", "value", 1),
        ("value", "value", 2),
        ("key", "query", 2),
    ],
)
def test_each_kind_of_inner_channel_is_made_by_one_kernel(inside, name, axis):
    layer = layers.MultiHeadAttention(2, 4)
    attention_call(layer)
    variable, found = rule_of(producing_variable, layer)(layer, inside)
    assert (variable.path.split("/")[-2:], found) == ([name, "kernel"], axis)


def test_heads_of_keys_go_with_all_heads_of_the_query_that_read_them():
    layer = layers.GroupQueryAttention(3, 4, 2, use_bias=False)
    x = keras.Input((5, 6))
    call = resrep_keras.trace(keras.Model(x, layer(x, x))).calls[-1]
    inside = {"heads": mask(0, 1), "width": mask(1, 1, 0)}
    every = np.ones(6, bool)
    keep = Part((every,) * len(call.inputs), Selected(every), inside=inside, call=call)
    config, weights = rule_of(narrow, layer)(layer, keep)
    assert config == {"num_query_heads": 2, "num_key_value_heads": 1, "head_dim": 2}
    shapes = {w.path.split("/")[-2]: new.shape for w, new in zip(layer.weights, weights)}
    assert shapes["query"] == (6, 2, 2) and shapes["key"] == shapes["value"] == (6, 1, 2)


# --- SelfAttentionPooling -------------------------------------------------------------------------


def test_each_head_has_the_channels_of_the_sequence():
    layer = resrep_keras.SelfAttentionPooling(4, heads=2, return_attention=True)
    answer = Answer(layer, SEQUENCE)
    assert answer.ids() == [0, 1, 2] and answer.call.output_shape == (None, 2, 3)
    assert answer.graph.group(f"{layer.name}.units").size == 4
    assert answer.graph.group(answer.graph.calls[0].name).size == 3
    # 5 positions: 3 inputs for 4 units; 2 heads that read 4 units and add up 3 channels.
    assert answer.call.inside["units"].size == 4
    model = keras.Model(inputs := keras.Input((5, 3)), layer(inputs)[0])
    assert resrep_keras.count_macs(model) == 5 * 3 * 4 + 5 * 4 * 2 + 5 * 3 * 2


def test_a_hidden_unit_behind_a_closed_gate_decides_nothing():
    layer = built(resrep_keras.SelfAttentionPooling(4, 2), 5, 3)
    fewer = resrep_keras.SelfAttentionPooling(3, 2)
    fewer.build((None, 5, 3))
    hidden, score = layer.get_weights()
    fewer.set_weights([np.delete(hidden, 1, axis=1), np.delete(score, 1, axis=0)])
    gated = Gated(layer, {"units": 4})
    gated.gates["units"].kernel.assign([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(
        ops.convert_to_numpy(gated(sequence())), ops.convert_to_numpy(fewer(sequence())), 1e-5
    )
    changes, weights = rule_of(narrow, layer)(
        layer, part(mask(1, 0, 1), None, inside={"units": mask(1, 0, 1, 1)})
    )
    assert changes == {"units": 3}
    np.testing.assert_array_equal(weights[0], hidden[[0, 2]][:, [0, 2, 3]])
    np.testing.assert_array_equal(weights[1], score[[0, 2, 3]])


def test_units_of_a_pooling_are_pruned_by_the_smallest_of_their_columns():
    inputs = keras.Input((5, 3))
    layer = resrep_keras.SelfAttentionPooling(4, 2, name="pooling")
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layer(inputs))))
    hidden = np.ones((3, 4), "float32") * [3, 0.1, 2, 1]
    layer.set_weights([hidden, np.ones((4, 2))])
    slim = resrep_keras.MagnitudePruning(0.1).prune(model)
    left = slim.get_layer("pooling").get_weights()[0]
    np.testing.assert_array_equal(left, hidden[:, [0, 2, 3]].astype("float32"))


def test_what_makes_a_mask_keeps_its_channels_and_the_mask_holds_in_the_slim_model():
    x = inputs = keras.Input((5, 4))
    gate = layers.Dense(6, activation="relu")(inputs)
    present = ops.any(gate > 0.2, axis=-1)
    x = layers.Dense(7, activation="relu", name="free")(x)
    pooled, attention = resrep_keras.SelfAttentionPooling(4, 2, return_attention=True)(
        x, mask=present
    )
    model = keras.Model(inputs, [layers.Dense(3)(layers.Flatten()(pooled)), attention])
    zoo.randomise(model)
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.1))
    slim = resrep_keras.MagnitudePruning(0.3).prune(model)
    assert slim.get_layer("free").units < 7
    x = np.random.default_rng(0).normal(0, 0.3, (6, 5, 4)).astype("float32")
    expected = model.predict(x, verbose=0)
    assert 0 < (expected[1] == 0).mean() < 1
    np.testing.assert_array_equal(expected[1] == 0, slim.predict(x, verbose=0)[1] == 0)
    np.testing.assert_allclose(wrapped.predict(x, verbose=0)[0], expected[0], rtol=1e-4, atol=1e-5)
