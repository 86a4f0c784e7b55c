"""Reports as pages: they hold all they need, and take what they show as text."""

import html.parser
import json
import re
import sys

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.costs.comparison import Conditions
from resrep_keras.deploy import page
from resrep_keras.deploy.by_layer import LayerRow
from resrep_keras.deploy.reported import Report, Row
from resrep_keras.deploy.sections import sections_of
from resrep_keras.graph.trace import trace

FAST = {"repeats": 1, "leave_out": ["latency", "file_bytes"], "verbose": 0}


@pytest.fixture(scope="module")
def report():
    """Of a run of some steps, with a name that is no name of a page's own."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(inputs)
    x = layers.Conv2D(8, 3, activation="relu", name="next")(x)
    x = layers.GlobalAveragePooling2D()(x)
    dense = keras.Model(inputs, layers.Dense(3, activation="softmax")(x), name="a_net")
    dense.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    y = np.arange(16) % 3
    model = resrep_keras.wrap(dense, resrep_keras.ResRep(0.4))
    model.fit(x, y, epochs=5, batch_size=4, verbose=0)
    slim = resrep_keras.finalize(model)
    runs = {"one": resrep_keras.report(dense, slim, (x, y), **FAST)}
    return resrep_keras.report(dense, slim, (x, y), runs=runs, **FAST)


class Tags(html.parser.HTMLParser):
    """Collects the tags of a page, and what is open at its end."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags_of(text):
    tags = Tags()
    tags.feed(text)
    assert not tags.open
    return tags.found


def test_the_page_is_whole_and_asks_no_network(report, tmp_path):
    report.save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and len(text) < 2_000_000
    found = tags_of(text)
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in found}
    for _, attributes in found:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")  # within the page
    assert not re.search(r"url\((?!#)|@import", text)
    assert sum(tag == "svg" for tag, _ in found) == 5  # layers, norms, progress, runs, the graph
    for section in sections_of(report)[1:]:
        assert f"<h2>{section.title}</h2>" in text
    assert "Not recorded" not in text and "a_net: dense and slim model" in text


def test_styles_stay_within_the_report(report):
    """A notebook that shows it keeps its own."""
    shown = report._repr_html_()
    assert not shown.startswith("<!DOCTYPE")
    for style in re.findall(r"<style>(.*?)</style>", shown, re.DOTALL):
        rules = re.sub(r"@media[^{]*\{", "", style)
        for rule in re.findall(r"([^{}]+)\{[^{}]*\}", rules):
            parts = [part.strip() for part in rule.split(",")]
            assert all(part.startswith((".resrep-report", ".graph")) for part in parts), rule
    drawn = re.findall(r'<style type="text/css">(.*?)</style>', shown, re.DOTALL)
    assert all("stroke-linejoin" in style for style in drawn)  # those of matplotlib


def test_names_are_text_and_no_markup(report):
    name = '<script>alert("x")</script>'
    rows = (LayerRow(name, "Dense", (4, 2), (8, 4)),)
    made = Report((Row(f"{name}|", "", 2, 1),), {}, Conditions(), name=name, layers=rows)
    assert "script" not in {tag for tag, _ in tags_of(made.to_html())}
    assert f"{name}\\|" in made.to_markdown()


def test_figures_take_the_colours_of_the_page(report):
    text = report.to_html()
    figures = text[text.index('class="figure') : text.index('class="picture')]
    assert "currentColor" in figures and "#000000" not in figures


def test_a_picture_that_is_too_large_is_told_of(report, monkeypatch):
    monkeypatch.setattr(page, "LARGEST_PICTURE", 100)
    text = report.to_html()
    assert "The picture is too large for this page" in text and 'class="picture' not in text


def test_markdown_has_all_tables(report, tmp_path):
    report.save(tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text == report.to_markdown() and text.startswith("# a_net: dense and slim model\n")
    titles = re.findall("^## (.*)$", text, re.MULTILINE)
    assert titles == [s.title for s in sections_of(report) if s.picture is None]
    assert re.search(r"^\| conv +\| +8 \|", text, re.MULTILINE)


def test_json_is_json_whatever_the_numbers_are(report, tmp_path):
    report.save(tmp_path / "report.JSON")
    told = json.loads((tmp_path / "report.JSON").read_text(), parse_constant=pytest.fail)
    assert [row["name"] for row in told["layers"]] == ["conv", "next", "dense"]
    assert told["certificate"]["macs_slim"] == report.row("MACs").slim
    assert len([e for e in told["log"]["entries"] if e["epoch"]]) == 5
    assert told["runs"]["rows"][1][0] == "one"
    odd = Report((Row("loss", "", 0.0, float("nan")),), {}, Conditions())
    row = json.loads(odd.to_json(), parse_constant=pytest.fail)["rows"][0]
    assert row["slim"] is None and row["ratio"] is None


def test_text_is_what_print_shows(report, tmp_path):
    report.save(tmp_path / "report.txt")
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == f"{report}\n"
    first, *_ = str(report).split("\n\n")
    assert first.splitlines()[1].startswith("MACs ") and "MACs are left" in str(report)


@pytest.mark.parametrize("path", ["report.pdf", "report", "html"])
def test_other_endings_are_refused(report, path):
    with pytest.raises(ValueError, match=r"ends in \.html, \.md, \.json or \.txt; got"):
        report.save(path)


def test_without_jinja_the_extra_is_named(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r'jinja2.*pip install "resrep-keras\[reports\]"'):
        report.to_html()
    assert report._repr_html_() is None  # a notebook shows the text
    assert report.to_markdown() and str(report)


def test_a_hundred_layers_stay_below_two_megabytes():
    inputs = x = keras.Input((4, 4, 4))
    for number in range(100):
        x = layers.Conv2D(4, 1, name=f"a_block_with_a_long_name_{number}_convolution")(x)
    graph = trace(keras.Model(inputs, x))
    rows = tuple(LayerRow(call.name, "Conv2D", (4, 2), (64, 32)) for call in graph.calls)
    text = Report((), {}, Conditions(), layers=rows, graph=graph).to_html()
    assert "Table of 100 rows" in text and 'class="picture' in text
    assert len(text) < 1_000_000
