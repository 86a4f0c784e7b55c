import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.deploy import exchange
from resrep_keras.deploy.formats import FORMATS
from resrep_keras.surgery.remove import remove_channels
from tests import helpers, zoo
from tests.sampling import sample_pairs

pytestmark = pytest.mark.tensorflow_only


def packages_are_there(suffix):
    extra = suffix.removeprefix(".")
    if extra in exchange.PACKAGES and exchange.missing(extra):
        pytest.skip(f"not installed: {', '.join(exchange.missing(extra))}")


NAMES = ["vgg", "squeeze_excite", "multi_input_output", "sequential"]


@pytest.mark.parametrize(("name", "suffix"), sample_pairs(NAMES, list(FORMATS)))
def test_reloaded_file_agrees(name, suffix, tmp_path):
    packages_are_there(suffix)
    model = remove_channels(zoo.build(name), {})
    path = tmp_path / "folder" / f"slim{suffix}"
    assert FORMATS[suffix].tolerance <= 1e-5
    assert resrep_keras.export(model, path) <= FORMATS[suffix].tolerance
    assert path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing half-written
    # Replaces what stands there.
    assert resrep_keras.export(model, path, batch_size=None) <= FORMATS[suffix].tolerance


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    model = zoo.build("chain")
    path = tmp_path / "slim.keras"
    resrep_keras.export(model, path)
    before = path.read_bytes()
    monkeypatch.setattr(type(model), "save", lambda self, path: path.write_text("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        resrep_keras.export(model, path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_tflite_is_smaller_by_the_channels_removed(tmp_path):
    model = zoo.build("vgg")
    slim = resrep_keras.MagnitudePruning(0.7).prune(model)
    for name, m in (("dense", model), ("slim", slim)):
        resrep_keras.export(m, tmp_path / f"{name}.tflite")
    sizes = [(tmp_path / f"{n}.tflite").stat().st_size for n in ("dense", "slim")]
    removed = resrep_keras.count_params(model) - resrep_keras.count_params(slim)
    assert abs(sizes[0] - sizes[1] - 4 * removed) < 1024


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (
            lambda p: resrep_keras.export(1, p),
            TypeError,
            "a built keras.Model; got 1",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "m.pt"),
            ValueError,
            r"ends in .keras or .tflite or .onnx or .openvino, or a folder without.*m.pt",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "m.keras", quantization="int8"),
            ValueError,
            r"Expected a path that ends in .tflite with quantization='int8'; got .*m.keras",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "m.keras", batch_size=4),
            ValueError,
            r"Expected a path that ends in .tflite with batch_size=4; got .*m.keras",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "m.tflite", latency="yes"),
            TypeError,
            "Expected latency to be True or False",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "m.tflite", tolerance=-1),
            ValueError,
            "Expected tolerance to be a number of 0 or more; got -1",
        ),
        (
            lambda p: resrep_keras.export(
                zoo.build("chain"), p / "m.tflite", test_data=(np.ones((2, 8, 8, 3)), np.ones(2))
            ),
            ValueError,
            "to be compiled with the loss and metrics",
        ),
        (
            lambda p: resrep_keras.export(resrep_keras.wrap(zoo.build("chain")), p / "m.keras"),
            ValueError,
            "has compactors. Export the slim model",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "m.keras", sparse=True),
            ValueError,
            r"Expected a path that ends in .tflite with sparse=True; got .*m.keras",
        ),
        (
            lambda p: resrep_keras.export(zoo.build("chain"), p / "folder", sparse=True),
            ValueError,
            r"Expected a path that ends in .tflite with sparse=True; got .*folder",
        ),
    ],
)
def test_bad_input(act, error, text, tmp_path):
    with pytest.raises(error, match=text):
        act(tmp_path)


def test_helpers_see_a_difference():
    """The measure of the other tests is not blind."""
    model = zoo.build("chain")
    other = zoo.build("chain", seed=1)
    assert helpers.difference(model, other) > 0.1
    assert np.isfinite(helpers.difference(model, keras.models.clone_model(model)))
