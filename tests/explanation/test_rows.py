"""Rows of an explanation: which layer can be pruned, which not, why, and what to do."""

import importlib

import keras
from keras import layers, ops

from resrep_keras.explanation.explain import explain
from resrep_keras.graph.flow import flow
from tests.explanation.models import column, explained, model_of


def test_a_chain_is_prunable_but_for_its_output():
    explanation = explained("chain")
    assert column(explanation, "channels") == [6, 8, 5, 3]
    assert column(explanation, "prunable") == [6, 8, 5, 0]
    assert column(explanation, "status") == ["prunable"] * 3 + ["pinned"]
    last = explanation.rows[-1]
    assert (last.pinned_by, last.reason) == ("(output)", "an output of the model")
    assert last.remedy == "nothing: the channels are the model's answer."
    assert explanation.rows[0].reason is explanation.rows[0].remedy is None


def test_coupled_layers_name_each_other():
    explanation = explained("residual")
    stream = [row for row in explanation.rows if row.status == "coupled"]
    names = [row.layer for row in stream]
    assert len(stream) == 3
    for row in stream:
        assert row.group == names[0] and row.coupled
        assert row.partners == tuple(name for name in names if name != row.layer)
    # The stem and the second convolution of both blocks; the first of both blocks; three classes.
    totals = explanation.totals
    assert (totals.coupled, totals.prunable, totals.pinned) == (3 * 6, 2 * 6, 3)


def test_a_gate_follows_the_stream_that_it_scales():
    explanation = explained("squeeze_excite")
    stream, gate = (row for row in explanation.rows if row.channels == 8)
    assert (stream.status, gate.status) == ("prunable", "follows")
    assert gate.follows == stream.layer
    assert stream.followers == (gate.layer,)
    assert gate.prunable == 8
    assert f"the channels of {stream.layer}, which it scales" in str(explanation)
    assert explanation.totals.prunable == 8 + 8 + 3 + 6


def test_an_unknown_layer_pins_what_it_reads_and_says_what_to_register():
    explanation = explained("unknown_layer")
    (row,) = (row for row in explanation.rows if row.channels == 8)
    assert (row.status, row.prunable) == ("pinned", 0)
    assert row.pinned_by.startswith("mystery")
    assert row.reason.startswith("Mystery has no rule")
    for question in ("flow.flow", "narrow.narrow", "macs.macs"):
        assert f"{question}.register(Mystery)" in row.remedy
    assert explanation.totals.pinned == 8 + 3
    # The last branch of the model does not read through the unknown layer: it stays prunable.
    assert explanation.totals.prunable == 6 + 5


def test_the_remedy_names_functions_that_exist_and_it_helps():
    class Share(layers.Layer):
        """What it makes of a channel depends on all others."""

        def call(self, inputs):
            return inputs - ops.var(inputs, axis=-1, keepdims=True)

        def compute_output_shape(self, input_shape):
            return input_shape

    model = model_of(layers.Conv2D(6, 3), Share(), layers.Flatten(), layers.Dense(2))
    words = explain(model).rows[0].remedy.split()
    names = [word.split("(")[0] for word in words if "register" in word and "resrep" in word]
    assert len(names) == 3
    for module, function, _ in (name.rsplit(".", 2) for name in names):
        assert callable(getattr(importlib.import_module(module), function).register)

    @flow.register(Share)
    def _(layer, call):
        return call.input

    assert column(explain(model), "status") == ["prunable", "pinned"]


def test_what_no_bias_can_hold_is_mended_by_a_batch_normalisation():
    explanation = explained("softplus_border")
    first, second = explanation.rows[:2]
    assert first.status == "pinned"
    assert first.pinned_by == second.layer
    assert "no bias can hold" in first.reason
    assert "BatchNormalization" in first.remedy and "padding='valid'" in first.remedy

    def statuses(*between, activation="softplus", padding="same"):
        first = layers.Conv2D(6, 3, activation=activation)
        rest = layers.Conv2D(5, 3, padding=padding), layers.Flatten(), layers.Dense(2)
        model = model_of(first, *between, *rest, shape=(8, 8, 2))
        return column(explain(model), "status")

    assert statuses() == ["pinned", "prunable", "pinned"]
    for mended in (
        statuses(layers.BatchNormalization()),
        statuses(padding="valid"),
        statuses(activation="relu"),
    ):
        assert mended == ["prunable", "prunable", "pinned"]


def test_statistics_over_channels_are_pinned_or_inexact():
    model = model_of(layers.Dense(5), layers.LayerNormalization(), layers.Dense(2), shape=(3,))
    row = explain(model).rows[0]
    assert row.status == "pinned" and row.inexact is None
    assert row.remedy.startswith("exact=False allows it")
    explanation = explain(model, exact=False)
    row = explanation.rows[0]
    assert row.status == "prunable" and "statistics run over all channels" in row.inexact
    assert explanation.totals.inexact == 5
    assert "inexact: layer_normalization" in str(explanation)
    assert "Removing 5 (71.4 %) of the channels changes outputs" in str(explanation)  # 5 of 5 + 2


def test_a_partly_pinned_layer_says_how_many():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 3, activation="relu")(inputs)
    y = layers.Dense(3)(layers.Flatten()(x[..., 2:]))
    explanation = explain(keras.Model(inputs, [x[..., :2], y]))
    first = explanation.rows[0]
    assert (first.status, first.channels, first.prunable) == ("prunable", 6, 4)
    assert "2 are kept by (output)" in str(explanation)
    assert explanation.totals.pinned == 2 + 3


def test_a_single_channel_stays():
    model = model_of(layers.Conv2D(1, 3), layers.Flatten(), layers.Dense(2))
    row = explain(model).rows[0]
    assert row.status == "pinned" and row.pinned_by == row.layer
    assert "single channel" in row.reason


def test_a_sum_with_the_input_is_named():
    inputs = keras.Input((4, 4, 3), name="image")
    x = layers.Add()([inputs, layers.Conv2D(3, 3, padding="same")(inputs)])
    explanation = explain(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    assert explanation.rows[0].pinned_by == "image"
    assert [pin.layer for pin in explanation.pins] == ["(output)", "image"]


def test_each_pinning_node_is_listed_once():
    explanation = explained("unknown_layer")
    names = [pin.layer for pin in explanation.pins]
    assert len(names) == 2 and names[1] == "(output)"
    assert [pin.channels for pin in explanation.pins] == [8, 3]
    listed = str(explanation).split("Channels are pinned by:")[1]
    assert listed.count("\n- ") == listed.count("remedy: ") == 2
