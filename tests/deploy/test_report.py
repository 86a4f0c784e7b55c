import json

import numpy as np
import pytest

import resrep_keras
from tests import zoo

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture(scope="module")
def models():
    dense = zoo.build("chain")
    return dense, resrep_keras.MagnitudePruning(0.5).prune(dense)


def test_rows_and_widths(models, tmp_path):
    dense, slim = models
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
    labels = dense.predict(x, verbose=0).argmax(-1)
    table = resrep_keras.report(dense, slim, test_data=(x, labels), repeats=3)
    rows = {row.name: row for row in table.rows}
    assert rows["MACs"].dense == resrep_keras.count_macs(dense)
    assert rows["MACs"].ratio <= 0.5
    assert rows["parameters"].slim == resrep_keras.count_params(slim)
    assert rows["accuracy"].dense == 100
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
