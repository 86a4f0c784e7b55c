import json

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.costs.quantities import QUANTITIES
from tests import zoo

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture(scope="module")
def models():
    dense = zoo.build("chain")
    return dense, resrep_keras.MagnitudePruning(0.5).prune(dense)


def test_rows_and_widths(models, tmp_path):
    dense, slim = models
    dense.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
    labels = dense.predict(x, verbose=0).argmax(-1)
    table = resrep_keras.report(dense, slim, test_data=(x, labels), repeats=3)
    rows = {row.name: row for row in table.rows}
    assert rows["MACs"].dense == resrep_keras.count_macs(dense)
    assert rows["MACs"].ratio <= 0.5
    assert rows["parameters"].slim == resrep_keras.count_params(slim)
    assert rows["accuracy"].dense == 1
    assert all(rows[name].dense > 0 for name in ("TFLite latency", "Keras latency"))
    assert set(table.widths) == {layer.name for layer in dense.layers if hasattr(layer, "kernel")}
    text = str(table)
    assert "TFLite latency (ms)" in text and "batch 1" in text and "1 thread" in text
    stored = json.loads(table.to_json(tmp_path / "sub" / "report.json"))
    assert stored == json.loads((tmp_path / "sub" / "report.json").read_text())
    assert stored["rows"][0]["slim"] == rows["MACs"].slim


def test_plot_returns_a_figure_of_all_layers(models):
    figure = resrep_keras.report(*models, repeats=1).plot()
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 4
    assert "of the MACs left" in axes.get_title()


def test_what_is_left_out_is_not_measured(models):
    everything = {row.name for row in resrep_keras.report(*models, repeats=1).rows}
    latencies, files = {"TFLite latency", "Keras latency"}, {".tflite file", ".keras file"}
    assert latencies | files < everything
    table = resrep_keras.report(*models, repeats=1, leave_out=["latency", "file_bytes", "widths"])
    assert {row.name for row in table.rows} == everything - latencies - files
    assert not table.widths and table.plot().axes[0].get_title().endswith("of the MACs left")
    table = resrep_keras.report(*models, repeats=1, leave_out=[*QUANTITIES])
    assert not table.rows and table.plot().axes[0].get_title() == "Widths before and after"


@pytest.mark.parametrize(
    ("leave_out", "error", "text"),
    [
        ("latency", TypeError, r"a list of names such as \['latency'\]; got 'latency'"),
        (3, TypeError, "got 3 of type int"),
        (["speed"], ValueError, "'macs', 'params', .*, 'quality' or 'widths'; got 'speed'"),
    ],
)
def test_what_is_not_known_cannot_be_left_out(models, leave_out, error, text):
    with pytest.raises(error, match=text):
        resrep_keras.report(*models, leave_out=leave_out)


def test_conditions_of_latency_are_told_where_it_was_measured():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    left = resrep_keras.report(model, model, leave_out=["latency"])
    assert "Latency" not in str(left) and "on tensorflow." in str(left)
