"""explain(model): what can be pruned, what not, why, and what to do about it."""

import importlib
import itertools
import json
import time
import xml.etree.ElementTree as ElementTree

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.explanation.explain import WIDTH, explain
from resrep_keras.explanation.picture import BOX, PITCH, RED, draw
from resrep_keras.explanation.remedies import OTHERWISE, REMEDIES, remedy
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.flow import flow
from resrep_keras.graph.labels import Flow
from tests import zoo

SVG = "{http://www.w3.org/2000/svg}"


def explained(name, **settings):
    return explain(zoo.ZOO[name](), **settings)


def column(explanation, key):
    return [row[key] for row in explanation.rows]


def model_of(*stack, shape=(4, 4, 2)):
    return keras.Sequential([keras.Input(shape), *stack])


# --- rows ----------------------------------------------------------------------------------------


def test_a_chain_is_prunable_but_for_its_output():
    explanation = explained("chain")
    assert column(explanation, "channels") == [6, 8, 5, 3]
    assert column(explanation, "prunable") == [6, 8, 5, 0]
    assert column(explanation, "status") == ["prunable"] * 3 + ["pinned"]
    last = explanation.rows[-1]
    assert (last["pinned_by"], last["reason"]) == ("(output)", "an output of the model")
    assert last["remedy"] == "nothing: the channels are the model's answer."
    assert explanation.rows[0]["reason"] is explanation.rows[0]["remedy"] is None


def test_coupled_layers_name_each_other():
    explanation = explained("residual")
    stream = [row for row in explanation.rows if row["status"] == "coupled"]
    names = [row["layer"] for row in stream]
    assert len(stream) == 3
    for row in stream:
        assert row["group"] == names[0] and row["coupled"]
        assert row["partners"] == [name for name in names if name != row["layer"]]
    # The stem and the second convolution of both blocks; the first of both blocks; three classes.
    totals = explanation.totals
    assert (totals["coupled"], totals["prunable"], totals["pinned"]) == (3 * 6, 2 * 6, 3)


def test_a_gate_follows_the_stream_that_it_scales():
    explanation = explained("squeeze_excite")
    stream, gate = (row for row in explanation.rows if row["channels"] == 8)
    assert (stream["status"], gate["status"]) == ("prunable", "follows")
    assert gate["follows"] == stream["layer"]
    assert stream["followers"] == [gate["layer"]]
    assert gate["prunable"] == 8
    assert f"the channels of {stream['layer']}, which it scales" in str(explanation)
    assert explanation.totals["prunable"] == 8 + 8 + 3 + 6


def test_an_unknown_layer_pins_what_it_reads_and_says_what_to_register():
    explanation = explained("unknown_layer")
    (row,) = (row for row in explanation.rows if row["channels"] == 8)
    assert (row["status"], row["prunable"]) == ("pinned", 0)
    assert row["pinned_by"].startswith("mystery")
    assert row["reason"].startswith("Mystery has no rule")
    for question in ("flow.flow", "narrow.narrow", "macs.macs"):
        assert f"{question}.register(Mystery)" in row["remedy"]
    assert explanation.totals["pinned"] == 8 + 3
    # The last branch of the model does not read through the unknown layer: it stays prunable.
    assert explanation.totals["prunable"] == 6 + 5


def test_the_remedy_names_functions_that_exist_and_it_helps():
    class Doubled(layers.Layer):
        def call(self, inputs):
            return 2 * inputs

        def compute_output_shape(self, input_shape):
            return input_shape

    model = model_of(layers.Conv2D(6, 3), Doubled(), layers.Flatten(), layers.Dense(2))
    words = explain(model).rows[0]["remedy"].split()
    names = [word.split("(")[0] for word in words if "register" in word and "resrep" in word]
    assert len(names) == 3
    for module, function, _ in (name.rsplit(".", 2) for name in names):
        assert callable(getattr(importlib.import_module(module), function).register)

    @flow.register(Doubled)
    def _(layer, call):
        return call.input

    assert column(explain(model), "status") == ["prunable", "pinned"]


def test_what_no_bias_can_hold_is_mended_by_a_batch_normalisation():
    explanation = explained("softplus_border")
    first, second = explanation.rows[:2]
    assert first["status"] == "pinned"
    assert first["pinned_by"] == second["layer"]
    assert "no bias can hold" in first["reason"]
    assert "BatchNormalization" in first["remedy"] and "padding='valid'" in first["remedy"]

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
    assert row["status"] == "pinned" and row["inexact"] is None
    assert row["remedy"].startswith("exact=False allows it")
    explanation = explain(model, exact=False)
    row = explanation.rows[0]
    assert row["status"] == "prunable" and "statistics run over all channels" in row["inexact"]
    assert explanation.totals["inexact"] == 5
    assert "inexact: layer_normalization" in str(explanation)
    assert "Removing 5 (71.4 %) of the channels changes outputs" in str(explanation)  # 5 of 5 + 2


def test_a_partly_pinned_layer_says_how_many():
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(6, 3, activation="relu")(inputs)
    y = layers.Dense(3)(layers.Flatten()(x[..., 2:]))
    explanation = explain(keras.Model(inputs, [x[..., :2], y]))
    first = explanation.rows[0]
    assert (first["status"], first["channels"], first["prunable"]) == ("prunable", 6, 4)
    assert "2 are kept by (output)" in str(explanation)
    assert explanation.totals["pinned"] == 2 + 3


def test_a_single_channel_stays():
    model = model_of(layers.Conv2D(1, 3), layers.Flatten(), layers.Dense(2))
    row = explain(model).rows[0]
    assert row["status"] == "pinned" and row["pinned_by"] == row["layer"]
    assert "single channel" in row["reason"]


def test_a_sum_with_the_input_is_named():
    inputs = keras.Input((4, 4, 3), name="image")
    x = layers.Add()([inputs, layers.Conv2D(3, 3, padding="same")(inputs)])
    explanation = explain(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    assert explanation.rows[0]["pinned_by"] == "image"
    assert [pin["layer"] for pin in explanation.pins] == ["(output)", "image"]


def test_every_reason_has_a_remedy():
    assert remedy("something that nobody has thought of") == OTHERWISE
    assert "register(Flip)" in remedy("Flip has no rule for how channels pass through it")
    assert len({words for _, words in REMEDIES}) == len(REMEDIES)


def test_each_pinning_node_is_listed_once():
    explanation = explained("unknown_layer")
    names = [pin["layer"] for pin in explanation.pins]
    assert len(names) == 2 and names[1] == "(output)"
    assert [pin["channels"] for pin in explanation.pins] == [8, 3]
    listed = str(explanation).split("Channels are pinned by:")[1]
    assert listed.count("\n- ") == listed.count("remedy: ") == 2


# --- totals --------------------------------------------------------------------------------------


def test_reachable_macs_and_floor_by_hand():
    model = model_of(
        layers.Conv2D(3, 1),
        zoo.Mystery(),
        layers.Conv2D(5, 3, activation="relu"),
        layers.Conv2D(4, 1, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    )
    totals = explain(model).totals
    pinned = 4 * 4 * 2 * 3  # positions, inputs, outputs: neither inputs nor outputs may go
    reachable = 2 * 2 * 9 * 3 * 5 + 2 * 2 * 5 * 4 + 4 * 2
    assert totals["macs"] == pinned + reachable == 724
    assert totals["macs_reachable"] == pytest.approx(reachable / 724)
    left = pinned + 2 * 2 * 9 * 3 * 1 + 2 * 2 * 1 * 1 + 1 * 2
    assert totals["floor_macs"] == {"coupled=False": left, "coupled=True": left}
    share = (724 - left) / 724  # 0.70994...
    assert totals["largest_target_reduction"]["coupled=True"] == 0.7099 < share


def test_coupled_channels_lower_the_floor():
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu")(inputs)
    y = layers.Dense(8)(layers.Dense(6, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()([x, y])))
    totals = explain(model).totals
    assert totals["macs"] == 4 * 8 + 8 * 6 + 6 * 8 + 8 * 2
    assert totals["floor_macs"]["coupled=False"] == 4 * 8 + 8 * 1 + 1 * 8 + 8 * 2
    assert totals["floor_macs"]["coupled=True"] == 4 * 1 + 1 * 1 + 1 * 1 + 1 * 2
    assert totals["macs_reachable"] == 1


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("name", ["chain", "residual", "unknown_layer", "squeeze_excite"])
def test_methods_take_the_largest_target_and_no_more(name, coupled):
    model = zoo.ZOO[name]()
    largest = explain(model).totals["largest_target_reduction"][f"coupled={coupled}"]
    resrep_keras.wrap(model, resrep_keras.MagnitudePruning(largest, coupled=coupled))
    with pytest.raises(ValueError, match=f"largest target_reduction is {largest}"):
        resrep_keras.wrap(model, resrep_keras.MagnitudePruning(largest + 0.0001, coupled=coupled))


def test_unknown_sizes_leave_costs_open_until_they_are_given():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, zoo.head(zoo.conv_bn(inputs, 4)))
    explanation = explain(model)
    totals = explanation.totals
    for name in ("macs", "macs_reachable", "floor_macs", "largest_target_reduction"):
        assert totals[name] is None
    assert totals["prunable"] == 4
    assert "input_shape is needed" in str(explanation)
    known = explain(model, input_shape=(8, 8, 3)).totals
    assert known["macs"] == 8 * 8 * 9 * 3 * 4 + 4 * 3
    assert known["macs_unknown"] is None


def test_where_nothing_may_go_the_largest_target_is_zero():
    explanation = explain(model_of(layers.Dense(3), shape=(4,)))
    assert explanation.totals["largest_target_reduction"]["coupled=True"] == 0
    assert "0 (nothing may go) with coupled=True" in str(explanation)
    empty = explain(model_of(layers.ReLU(), shape=(4,)))
    assert empty.totals["channels"] == 0 and empty.rows == ()
    assert "no layer that makes channels" in str(empty)
    inputs = keras.Input((4,))
    assert "output" in explain(keras.Model(inputs, inputs)).to_svg()


def test_resnet50_keeps_only_its_classes():
    explanation = explain(keras.applications.ResNet50(weights=None))
    totals = explanation.totals
    # (blocks, inner width): two inner convolutions a block, one at its end, one projection a stage.
    stages = [(3, 64), (4, 128), (6, 256), (3, 512)]
    inner = 64 + sum(2 * blocks * width for blocks, width in stages)
    stream = sum((blocks + 1) * 4 * width for blocks, width in stages)
    assert (totals["prunable"], totals["coupled"]) == (inner, stream)
    assert inner + stream == 26_560
    assert totals["pinned"] == 1000 and totals["channels"] == 27_560
    assert totals["macs"] == 3_857_973_248
    assert totals["macs_reachable"] == 1
    lines = str(explanation).split("\n\n")[0].splitlines()
    assert len(lines) == 1 + totals["layers"] == 1 + 54


def test_every_model_of_the_zoo_is_explained():
    for name, build in zoo.ZOO.items():
        explanation = explain(build())
        totals = explanation.totals
        parts = totals["prunable"] + totals["coupled"] + totals["pinned"]
        assert parts == totals["channels"] == sum(column(explanation, "channels")), name
        assert len(json.loads(explanation.to_json())["rows"]) == totals["layers"], name
        assert len(boxes_of(explanation.to_svg())) == len(explanation.graph.calls), name
        pinning = {pin["layer"] for pin in explanation.pins}
        assert {row["pinned_by"] for row in explanation.rows} - {None} <= pinning, name


# --- words and files -----------------------------------------------------------------------------


def test_long_names_and_notes_stay_on_one_line():
    inputs = x = keras.Input((4,))
    for number in range(9):
        y = layers.Dense(4, name=f"a_layer_whose_name_is_longer_than_any_column_{number}")(x)
        x = y if number == 0 else layers.Add()([x, y])
    explanation = explain(keras.Model(inputs, layers.Dense(2)(x)))
    table = str(explanation).split("\n\n")[0].splitlines()
    assert len(table) == 1 + 10
    assert max(map(len, table)) <= WIDTH
    assert table[1].startswith("a_layer_whose_name_..._than_any_column_0  ")  # the number is seen
    assert len(json.loads(explanation.to_json())["rows"][0]["partners"]) == 8


def test_json_round_trip_and_file(tmp_path):
    explanation = explained("squeeze_excite")
    path = tmp_path / "new" / "explanation.json"
    text = explanation.to_json(path)
    assert path.read_text() == text == explanation.to_json()
    stored = json.loads(text)
    assert stored["rows"] == list(explanation.rows)
    assert stored["pins"] == list(explanation.pins)
    assert stored["totals"] == explanation.totals
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


# --- the picture ---------------------------------------------------------------------------------


def boxes_of(text, kind="call"):
    """``(name, attributes of the box, tooltip)`` of each call, or port, in a picture."""
    root = ElementTree.fromstring(text)
    groups = [g for g in root.iter(f"{SVG}g") if g.get("class") == kind]
    return [
        (g.get("data-name"), g.find(f"{SVG}rect").attrib, g.findtext(f"{SVG}title")) for g in groups
    ]


@pytest.mark.parametrize(
    "name", ["chain", "residual", "concatenate", "multi_input_output", "shared_layer", "vgg"]
)
def test_the_picture_has_one_box_per_call_and_none_overlap(name):
    explanation = explained(name)
    text = explanation.to_svg()
    boxes = boxes_of(text)
    assert [box[0] for box in boxes] == [call.name for call in explanation.graph.calls]
    ports = boxes_of(text, "port")
    recording = explanation.graph.recording
    ends = len(keras.tree.flatten(recording.inputs)) + len(keras.tree.flatten(recording.outputs))
    assert len(ports) == ends
    rows = {}
    for _, rect, _ in boxes + ports:
        left = float(rect["x"])
        rows.setdefault(float(rect["y"]), []).append((left, left + float(rect["width"])))
        assert left > 0
    for row in rows.values():
        row.sort()
        assert all(a[1] < b[0] for a, b in itertools.pairwise(row))


def test_a_call_stands_one_row_below_the_last_of_its_inputs():
    explanation = explained("residual")
    y = {name: float(rect["y"]) for name, rect, _ in boxes_of(explanation.to_svg())}
    maker = {key: call for call in explanation.graph.calls for key in call.output_ids}
    for call in explanation.graph.calls:
        above = [y[maker[key].name] for key in call.input_ids if key in maker]
        if above:
            assert y[call.name] == max(above) + PITCH > max(above) + BOX


def test_coupled_layers_have_one_colour_and_a_thick_border():
    explanation = explained("residual")
    boxes = {name: rect for name, rect, _ in boxes_of(explanation.to_svg())}
    status = {row["layer"]: row["status"] for row in explanation.rows}
    coupled = [boxes[name] for name, value in status.items() if value == "coupled"]
    alone = [boxes[name] for name, value in status.items() if value == "prunable"]
    assert len({rect["fill"] for rect in coupled}) == 1
    assert len({rect["fill"] for rect in coupled + alone}) == 1 + len(alone)
    thick = {float(rect["stroke-width"]) for rect in coupled}
    thin = {float(rect["stroke-width"]) for rect in alone}
    assert min(thick) > max(thin)


def test_pinned_parts_are_dashed_and_tell_the_reason():
    explanation = explained("unknown_layer")
    boxes = boxes_of(explanation.to_svg())
    dashed = [(name, title) for name, rect, title in boxes if "stroke-dasharray" in rect]
    assert all(rect["stroke"] == RED for _, rect, _ in boxes if "stroke-dasharray" in rect)
    # The convolution of 8 channels, its batch norm and activation, the unknown layer, the output.
    assert len(dashed) == 5
    assert all("Mystery has no rule" in title for _, title in dashed[:4])
    assert "an output of the model" in dashed[4][1]


def test_concatenated_groups_are_stripes_and_the_legend_names_them():
    explanation = explained("concatenate")
    text = explanation.to_svg()
    root = ElementTree.fromstring(text)
    (name,) = {rect["fill"] for name, rect, _ in boxes_of(text) if name.startswith("concatenate")}
    fills = {gradient.get("id"): gradient for gradient in root.iter(f"{SVG}linearGradient")}
    assert len(fills[name.removeprefix("url(#").removesuffix(")")]) == 2 * 3
    legend = next(g for g in root.iter(f"{SVG}g") if g.get("class") == "legend")
    words = [element.text for element in legend.iter(f"{SVG}text")]
    for row in explanation.rows[:-1]:
        assert f"{row['layer']}: {row['channels']} channels" in words
    assert any("coupled" in text for text in words) and any("pinned" in text for text in words)


def test_the_picture_is_written_and_is_the_same_each_time(tmp_path):
    explanation = explained("squeeze_excite")
    path = tmp_path / "model.svg"
    assert explanation.to_svg(path) == explanation.to_svg() == path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["model.svg"]


class _FakeCall:
    """What the picture reads of a call, without a model."""

    def __init__(self, name, reads, makes):
        self.name, self.operation, self.inside = name, layers.ReLU, {}
        self.input_ids, self.output_ids = reads, [makes]
        self.tensors = (), ()
        self.output_shape = (None, 4)
        self.outputs = (Flow(np.zeros((1, 1), np.int64), (None, 4)),)


def _fake_graph(calls):
    return ChannelGraph(tuple(calls), (), (), 0, np.array([-1]))


def test_any_name_is_well_formed():
    (box,) = boxes_of(draw(_fake_graph([_FakeCall('a<b & "c"\x00', [], 0)])))
    assert box[0] == 'a<b & "c"?'


def test_a_thousand_calls_that_read_all_before_them_are_drawn_in_time():
    calls = [_FakeCall(f"call_{n}", range(max(0, n - 40), n), n) for n in range(500)]
    calls += [_FakeCall(f"call_{n}", [n - 1, n - 500], n) for n in range(500, 1000)]
    start = time.process_time()
    text = draw(_fake_graph(calls))
    assert time.process_time() - start < 2
    assert len(boxes_of(text)) == 1000
    assert len(text) < 5_000_000
