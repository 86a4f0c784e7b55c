"""ONNX and OpenVINO: names, any number of examples, and what is told where packages are missing."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.deploy import exchange
from resrep_keras.surgery.forward import example_inputs, run

pytestmark = pytest.mark.tensorflow_only
SUFFIXES = {".onnx": "onnx", ".openvino": "openvino"}
F32 = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16, on CPUs that can
generator = np.random.default_rng(0)


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    absent = exchange.missing(SUFFIXES[request.param])
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    return request.param


def heads(as_dict=False, policy=None):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 2), name="picture")
    age = keras.Input((3,), name="age")
    x = layers.ReLU()(layers.BatchNormalization(dtype=policy)(layers.Conv2D(4, 3)(image)))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Concatenate()([x, age])
    named = {"score": layers.Dense(2, dtype=policy)(x), "a": layers.Dense(1)(x)}
    if as_dict:
        return keras.Model({"picture": image, "age": age}, named)
    outputs = [layers.Identity(name=name)(value) for name, value in named.items()]
    return keras.Model([image, age], outputs)


def ask(path, arrays):
    """The answers of a file, by its own names, through the runtime's own interface."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, arrays)))
    import openvino

    compiled = openvino.Core().compile_model(path / f"{path.stem}.xml", "CPU", F32)
    answers = compiled(arrays)
    return {name: answers[name] for name in ("score", "a")}


@pytest.mark.parametrize("as_dict", [False, True])
def test_names_stay_and_any_number_of_examples_is_taken(tmp_path, suffix, as_dict):
    model, path = heads(as_dict), tmp_path / f"slim{suffix}"
    assert resrep_keras.export(model, path) <= 1e-5
    for number in (1, 3):
        arrays = {
            "picture": generator.normal(size=(number, 6, 6, 2)).astype("float32"),
            "age": generator.normal(size=(number, 3)).astype("float32"),
        }
        given = arrays if as_dict else list(arrays.values())
        expected = run(model, given)
        if not as_dict:
            expected = dict(zip(("score", "a"), expected))
        found = ask(path, arrays)
        assert set(found) == {"score", "a"}
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_quality_and_latency(tmp_path, suffix):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile(loss="mse")
    x, y = generator.normal(size=(5, 3)), generator.normal(size=(5, 1))
    found = resrep_keras.export(
        model, tmp_path / f"m{suffix}", test_data=(x, y), latency=True, tolerance=1e-4
    )
    assert found.quality["loss"][1] == pytest.approx(found.quality["loss"][0], rel=1e-4)
    assert 0 < found.seconds < 1 and found.threads == 1
    assert found.compared == "5 examples of test_data"


def test_a_mixed_policy_is_written_in_float32(tmp_path, suffix):
    found = resrep_keras.export(heads(policy="mixed_float16"), tmp_path / f"m{suffix}")
    assert found < 5e-3


def test_a_folder_of_openvino_is_replaced_and_others_are_not(tmp_path):
    if exchange.missing("openvino"):
        pytest.skip("not installed: openvino")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    path = tmp_path / "m.openvino"
    for _ in range(2):
        resrep_keras.export(model, path)
        assert {entry.name for entry in path.iterdir()} == {"m.xml", "m.bin"}
    (path / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds other files, which are left as they are"):
        resrep_keras.export(model, path)


def test_what_a_converter_cannot_do_is_told_in_its_words(tmp_path, suffix, monkeypatch):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)], name="net")

    def refuse(*args, **kwargs):
        raise RuntimeError("no such operation")

    monkeypatch.setattr(keras.Model, "export", refuse)
    with pytest.raises(ValueError, match=r"of model 'net'. Export it as .*no such operation"):
        resrep_keras.export(model, tmp_path / f"m{suffix}")
    assert not list(tmp_path.iterdir())


def test_what_a_runtime_cannot_do_is_told_in_its_words(tmp_path, suffix):
    text = keras.Input((1,), dtype="string", name="word")
    x = layers.Embedding(4, 2)(layers.StringLookup(vocabulary=["yes"])(text))
    model = keras.Model(text, layers.Dense(2)(layers.Flatten()(x)), name="words")
    with pytest.raises(ValueError, match=r"(?s)model 'words'.* Export it as .*LookupTableFind"):
        resrep_keras.export(model, tmp_path / f"m{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_package_names_the_extra(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    extra = SUFFIXES[suffix]
    text = rf'needs {", ".join(exchange.PACKAGES[extra])}.*"resrep-keras\[{extra}\]"'
    with pytest.raises(ImportError, match=text):
        resrep_keras.export(heads(), tmp_path / f"m{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_backends_are_refused(suffix, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match="needs the TensorFlow backend; this process runs on tor"):
        (exchange.for_onnx if suffix == ".onnx" else exchange.for_openvino)(heads())


def test_the_model_by_names_computes_the_same():
    model = heads()
    named = exchange.named_model(model)
    arrays = example_inputs(model)
    expected = run(model, arrays)
    found = run(named, dict(zip(("picture", "age"), arrays)))
    np.testing.assert_array_equal(found["score"], expected[0])
    np.testing.assert_array_equal(found["a"], expected[1])


@pytest.mark.parametrize(
    ("files", "is_one"),
    [
        (["slim.xml", "slim.bin"], True),
        (["slim.xml"], True),
        (["slim.bin"], False),
        (["slim.xml", "other.xml"], False),  # such as annotations of images
        (["image_1.xml"], False),
        ([], False),
    ],
)
def test_only_a_model_of_its_own_name_may_be_replaced(tmp_path, files, is_one):
    folder = tmp_path / "slim.openvino"
    folder.mkdir()
    for file in files:
        (folder / file).write_text("")
    assert exchange.is_openvino(folder) == is_one
