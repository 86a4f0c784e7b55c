"""The picture of a model: boxes, lines, colours."""

import itertools
import time
import xml.etree.ElementTree as ElementTree

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras.explanation.picture import BOX, PITCH, RED, draw
from resrep_keras.graph.channels import ChannelGraph
from resrep_keras.graph.labels import Flow
from tests.explanation.models import SVG, boxes_of, explained


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
    status = {row.layer: row.status for row in explanation.rows}
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
        assert f"{row.layer}: {row.channels} channels" in words
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
