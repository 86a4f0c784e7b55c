"""Each command over files, as it is typed."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import cli
from tests import zoo

pytestmark = pytest.mark.tensorflow_only


def images():
    generator = np.random.default_rng(0)
    return generator.normal(size=(48, 8, 8, 3)).astype("float32"), generator.integers(0, 3, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compiled model, one with compactors, and data."""
    folder = tmp_path_factory.mktemp("files")
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(12, 3, name="first")(inputs)))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu", name="second")(x))
    dense = keras.Model(inputs, layers.Dense(3, activation="softmax", name="kind")(x))
    zoo.randomise(dense)
    dense.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = images()
    dense.evaluate(x, y, verbose=0)
    dense.save(folder / "dense.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's word on the older format
        dense.save(folder / "dense.h5")
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.2))
    wrapped.save(folder / "wrapped.keras")
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "named.npz", image=x, kind=y)
    np.savez(folder / "wrong.npz", pictures=x)
    np.savez(folder / "more.npz", x=x, y=y, z=y)
    np.savez(folder / "beyond.npz", x=x, y=y + 3)  # classes that the model does not have
    np.savez(folder / "texts.npz", x=x, y=y.astype(str))
    np.save(folder / "objects.npy", np.array([{}, 1], object))
    (folder / "cut.npz").write_bytes((folder / "data.npz").read_bytes()[:300])
    (folder / "empty.npz").write_bytes(b"")
    np.save(folder / "inputs.npy", x)
    return folder


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Types a command in the folder; returns its exit code, and what it printed on both streams."""
    monkeypatch.chdir(folder)

    def typed(words):
        code = cli.main(words.split())
        return code, *capsys.readouterr()

    return typed


@pytest.mark.parametrize("file", ["dense.keras", "dense.h5"])
def test_explain(run, file):
    code, out, err = run(f"explain {file}")
    assert code == 0 and "first" in out and err == f"... reading {file}\n"
    code, out, _ = run(f"explain {file} --json")
    rows = json.loads(out)["rows"]
    assert code == 0 and [row["channels"] for row in rows if row["layer"] == "first"] == [12]


def test_prune_with_data_repairs(run, folder):
    words = "prune dense.keras slim.keras --target_reduction 0.3 --data data.npz"
    code, out, err = run(words)
    assert code == 0 and "MACs are left" in out and "Then changed on data" in out
    assert "pruning by TaylorPruning" in err
    slim = keras.models.load_model(folder / "slim.keras")
    assert resrep_keras.count_macs(slim) <= 0.7 * (36 * 27 * 12 + 16 * 12 * 9 * 8 + 8 * 3)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ("--method random --exclude first --target_reduction 0.3", {"first": 12}),
        ("--target_reduction params=0.4 --min_share 0.5 --quiet", {"first": 6, "second": 4}),
        ("--at_most macs=20000 --channel_multiple 4", {"first": 4}),
        ("--target_reduction 0.3 --min_channels sec*=7 --scope all", {"second": 7}),
        ("--target_reduction 0.3 --min_share first=0.75 --min_share s*=0.5", {"first": 9}),
    ],
)
def test_prune_takes_the_settings_of_methods(run, options, least):
    code, out, err = run(f"prune dense.keras slim.keras --json {options}")
    assert code == 0 and ("--quiet" in options) == (err == "")
    certificate = json.loads(out)["certificate"]
    assert certificate["macs_left"] < 0.8
    slim = keras.models.load_model("slim.keras")
    for name, channels in least.items():
        assert slim.get_layer(name).filters >= channels
    if "multiple" in options:
        assert certificate["macs_slim"] <= 20000 and slim.get_layer("first").filters % 4 == 0


def test_prune_without_repair_leaves_what_the_certificate_compared(run):
    words = "prune dense.keras slim.keras --target_reduction 0.3 --data data.npz --json"
    repaired, as_it_was = (json.loads(run(words + more)[1]) for more in ("", " --no_repair"))
    assert repaired["certificate"]["repaired"] and not as_it_was["certificate"]["repaired"]


def test_inexact_channels_go_where_that_is_asked_for(run, folder):
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(12, name="wide")(inputs))
    zoo.randomise(keras.Model(inputs, layers.Dense(2)(x))).save(folder / "normed.keras")
    words = "prune normed.keras slim.keras --target_reduction 0.3 --json"
    assert run(words)[0] == 1  # what the normalisation averages stays
    code, out, _ = run(f"{words} --inexact")
    assert code == 0 and json.loads(out)["certificate"]["inexact"]
    assert run("explain normed.keras --inexact --picture net.svg")[0] == 0
    assert (folder / "net.svg").read_text().startswith(("<svg", "<?xml"))


@pytest.mark.parametrize("keeps", [True, False])
def test_finalize_keeps_batch_normalisations(run, keeps):
    assert run("finalize wrapped.keras slim.keras" + " --keep_batch_norm" * keeps)[0] == 0
    kinds = [type(layer) for layer in keras.models.load_model("slim.keras").layers]
    assert (layers.BatchNormalization in kinds) == keeps


def test_finalize_warns_of_a_target_that_is_not_met_and_fails_with_strict(run):
    code, out, err = run("finalize wrapped.keras slim.keras --data inputs.npy")
    assert code == 0 and "(100.0%)" in out and "warning: " in err
    code, out, err = run("finalize wrapped.keras slim.keras --strict")
    assert code == 1 and out == "" and "target" in err


def test_report_evaluates_both(run):
    words = "report dense.keras dense.h5 --repeats 2 --leave_out widths --json --data "
    for file in ("data.npz", "named.npz"):
        code, out, _ = run(words + file)
        rows = {row["name"]: row for row in json.loads(out)["rows"]}
        assert code == 0 and rows["accuracy"]["ratio"] == rows["MACs"]["ratio"] == 1


REPORT = "report dense.keras dense.h5 --repeats 1 --leave_out latency --leave_out file_bytes "


@pytest.mark.parametrize("ending", ["html", "md", "json", "txt"])
def test_report_writes_a_page(run, folder, ending):
    code, out, err = run(f"{REPORT} --output page.{ending}")
    text = (folder / f"page.{ending}").read_text(encoding="utf-8")
    assert code == 0 and out.startswith(" ") and f"writing page.{ending}" in err
    assert {"html": "<h2>Layers</h2>", "md": "## Layers"}.get(ending, "first") in text


def test_report_takes_what_a_run_has_logged(run, folder):
    (folder / "log.csv").write_text("epoch,loss,val_loss\n0,2.5,NA\n1,1.5,3.5\n")
    (folder / "log.json").write_text(json.dumps({"loss": [2.5, 1.5]}))
    code, out, _ = run(f"{REPORT} --history log.csv --json")
    entries = json.loads(out)["log"]["entries"]
    values = [entry["values"] for entry in entries]
    assert code == 0 and values == [{"loss": 2.5}, {"loss": 1.5, "val_loss": 3.5}]
    code, out, _ = run(f"{REPORT} --history log.json --json")
    assert [e["values"]["loss"] for e in json.loads(out)["log"]["entries"]] == [2.5, 1.5]
    (folder / "log.json").write_text(json.dumps([1, 2]))
    code, out, err = run(f"{REPORT} --history log.json")
    assert code == 1 and out == "" and "lists of them by name" in err
    (folder / "none.csv").write_text("epoch,loss\n")
    code, out, err = run(f"{REPORT} --history none.csv")
    assert code == 1 and out == "" and "to have a line for each epoch; it has none" in err
    code, _, err = run(f"{REPORT} --history dense.keras")
    assert code == 1 and "has no record of a run" in err


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(run):
    code, out, err = run("report none.keras none.keras --output page.pdf")
    assert code == 1 and out == "" and "a path that ends in .html" in err


def test_export_in_integers(run):
    words = "export dense.keras small.tflite --quantization int8 --calibration_data inputs.npy "
    code, out, _ = run(words + "--test_data data.npz --latency --json")
    told = json.loads(out)
    assert code == 0 and told["path"] == "small.tflite" and told["bytes"] < told["float32_bytes"]
    assert set(told["quality"]) == {"loss", "accuracy"} and told["seconds"] > 0


def test_export_compares_on_given_inputs_and_stores_sparse_kernels(run):
    assert run("export dense.keras a.tflite --data data.npz --sparse")[0] == 0
    code, _, err = run("export dense.keras a.tflite --data wrong.npz")
    assert code == 1 and "Expected 'wrong.npz' to hold the inputs" in err
    code, _, err = run("export dense.keras a.keras --sparse")
    assert code == 1 and "sparse" in err


def test_benchmark_of_models_and_files(run):
    assert run("export dense.keras open.tflite --batch_size 0")[0] == 0
    code, out, _ = run("benchmark dense.keras open.tflite --repeats 3 --batch_size 2 --json")
    rows = json.loads(out)["rows"]
    assert code == 0 and [row["file"] for row in rows] == ["dense.keras", "open.tflite"]
    assert rows[0]["macs"] == 36 * 27 * 12 + 16 * 12 * 9 * 8 + 8 * 3 and rows[1]["macs"] is None
    assert "batch 2" in json.loads(out)["conditions"]
    code, out, _ = run("benchmark dense.keras --repeats 3")
    assert code == 0 and "1.000" in out and f"{rows[0]['macs']:,}" in out


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("wrong.npz", "Expected 'wrong.npz' to hold the inputs as array 'x', or as 'image'"),
        ("more.npz", "got 'z', too"),
        ("none.npz", "There is no file or folder 'none.npz'"),
        ("beyond.npz", "TensorFlow cannot compute with what was given"),
        ("texts.npz", "TensorFlow cannot compute with what was given"),
        ("objects.npy", "holds no Python objects, which could be code"),
        ("cut.npz", "Expected 'cut.npz' to be a whole file of arrays"),
        ("empty.npz", "Expected 'empty.npz' to be a whole file of arrays"),
    ],
)
def test_data_that_will_not_do(run, file, text):
    code, out, err = run(f"prune dense.keras slim.keras --data {file}")
    assert code == 1 and out == "" and text in err


def test_code_in_a_file_is_not_run(run, folder):
    inputs = keras.Input((4,))
    keras.Model(inputs, layers.Lambda(lambda x: x + 1)(inputs)).save(folder / "code.keras")
    code, out, err = run("explain code.keras")
    assert code == 1 and out == "" and "Lambda" in err
    saved = folder / "old"
    saved.mkdir()
    (saved / "keras_metadata.pb").write_bytes(b'{"class_name": "Lambda"}')
    code, _, err = run("explain old")
    assert code == 1 and "holds code, which is not run" in err


def test_a_saved_model_of_keras_2_is_pruned(run, folder):
    tf_keras = pytest.importorskip("tf_keras", reason="reads SavedModels that tell their layers")
    old = tf_keras.Sequential([tf_keras.layers.Dense(8, activation="relu", name="hidden")])
    old.add(tf_keras.layers.Dense(2))
    x = np.ones((3, 4), "float32")
    expected = old(x).numpy()
    old.save(folder / "old_model", save_format="tf")
    words = "prune old_model young.keras --target_reduction 0.3 --exclude hidden"
    assert run(words)[0] == 1  # nothing else can go
    assert run("prune old_model young.keras --target_reduction 0.01 --method random")[0] == 0
    assert run("export old_model whole.keras")[0] == 0
    whole = keras.models.load_model(folder / "whole.keras")
    np.testing.assert_allclose(whole(x), expected, rtol=1e-6)
