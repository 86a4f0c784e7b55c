"""explain(model): the whole, as a value and as files."""

import json

import keras
import numpy as np

from resrep_keras.explanation.explain import explain
from tests import zoo
from tests.explanation.models import boxes_of, column, explained

KEYS = [
    *("layer", "channels", "prunable", "status", "group", "coupled", "partners", "followers"),
    *("follows", "pinned_by", "reason", "remedy", "inexact", "probed"),
]


def test_every_model_of_the_zoo_is_explained():
    for name, build in zoo.ZOO.items():
        explanation = explain(build())
        totals = explanation.totals
        parts = totals.prunable + totals.coupled + totals.pinned
        assert parts == totals.channels == sum(column(explanation, "channels")), name
        assert len(json.loads(explanation.to_json())["rows"]) == totals.layers, name
        assert len(boxes_of(explanation.to_svg())) == len(explanation.graph.calls), name
        pinning = {pin.layer for pin in explanation.pins}
        assert {row.pinned_by for row in explanation.rows} - {None} <= pinning, name


class Scaled(keras.layers.Layer):
    """RMS normalisation, opened nowhere here: the model takes any number of positions."""

    def call(self, x):
        return x * keras.ops.rsqrt(keras.ops.mean(x * x, -1, keepdims=True) + 1e-6)


def test_an_output_behind_a_layer_that_stays_closed_is_told_as_one():
    inputs = keras.Input((None, 3))
    x = keras.layers.Dense(8, name="first")(inputs)
    model = keras.Model(inputs, Scaled(name="last")(x))
    row, pinning = _first_row(explain(model, input_shape=(6, 3)))
    assert (row.pinned_by, row.reason) == ("(output)", "an output of the model")
    assert "(output)" in pinning
    row, pinning = _first_row(explain(model, input_shape=None))
    assert row.pinned_by == "last" and row.pinned_by in pinning


def _first_row(explanation):
    return explanation.rows[0], {pin.layer for pin in explanation.pins}


def test_json_round_trip_and_file(tmp_path):
    explanation = explained("squeeze_excite")
    path = tmp_path / "new" / "explanation.json"
    text = explanation.to_json(path)
    assert path.read_text() == text == explanation.to_json()
    stored = json.loads(text)
    for row, read in zip(explanation.rows, stored["rows"], strict=True):
        assert list(read) == KEYS
        lists = {"partners": row.partners, "followers": row.followers, "probed": row.probed}
        assert read == {
            key: list(lists[key]) if key in lists else getattr(row, key) for key in KEYS
        }
    for pin, read in zip(explanation.pins, stored["pins"], strict=True):
        lists = {"reasons": list(pin.reasons), "remedies": list(pin.remedies)}
        assert read == {"layer": pin.layer, "channels": pin.channels, **lists}
    totals = explanation.totals
    assert stored["totals"] == totals.to_dict()
    assert stored["totals"]["macs"] == totals.macs == totals.quantities["macs"].dense
    assert stored["totals"]["shares"] == totals.shares
    path.write_text("old")
    explanation.to_json(path)
    assert path.read_text() == text
    assert [p.name for p in path.parent.iterdir()] == ["explanation.json"]


def test_explanations_compare_without_their_graphs():
    model = zoo.ZOO["chain"]()
    assert explain(model) == explain(model)
    assert "ChannelGraph" not in repr(explain(model))


def test_explain_does_not_change_the_model():
    model = zoo.build("residual")
    config, weights = model.to_json(), model.get_weights()
    outputs = [layer.output for layer in model.layers]
    explain(model).to_svg()
    assert model.to_json() == config
    # A layer that had been called again would have two outputs, and Keras would raise here.
    assert all(layer.output is tensor for layer, tensor in zip(model.layers, outputs))
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))


def test_what_closed_a_layer_is_given_as_the_reason():
    class Block(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = keras.layers.Dense(8, name="inner")

        def compute_output_shape(self, input_shape):
            return (*input_shape[:-1], 8)

        def call(self, x):
            if isinstance(x, keras.KerasTensor):
                raise LookupError("no arrays here")
            return self.inner(x)

    inputs = keras.Input((6,))
    block = Block(name="block")
    block(keras.ops.ones((1, 6)))
    x = block(keras.layers.Dense(6, name="first")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(8)(x)))
    text = " ".join(str(explain(model)).split())
    assert "its call() raises LookupError: no arrays here on symbolic tensors" in text
