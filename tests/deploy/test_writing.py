"""Quantised files: written, run beside their model, judged, timed, and kept or not."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.deploy.exported import Exported
from resrep_keras.tflite.run import TFLiteRunner

pytestmark = pytest.mark.tensorflow_only
generator = np.random.default_rng(0)
x = generator.normal(size=(40, 64)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,), name="a")
    hidden = layers.Dense(128, activation="relu")(inputs)
    made = keras.Model(inputs, layers.Dense(2, name="y")(hidden))
    made.compile(loss="mse", metrics=["mae"])
    return made


def labels(model):
    return keras.ops.convert_to_numpy(model(x)) + 1


def test_an_int8_file_is_told_in_full(tmp_path, model):
    path = tmp_path / "slim.tflite"
    found = resrep_keras.export(
        model,
        path,
        quantization="int8",
        calibration_data=x[:20],
        test_data=(x, labels(model)),
        latency=True,
    )
    assert isinstance(found, Exported) and 0 < found < 0.1
    weights = 64 * 128 + 128 * 2
    assert found.bytes == path.stat().st_size < weights + 6_000
    assert found.float32_bytes > 4 * weights
    assert found.compared == "32 examples of test_data"
    assert found.quality["mae"][0] == pytest.approx(1, rel=1e-5)
    assert found.quality["mae"][1] == pytest.approx(1, abs=0.1)
    assert found.quality["mae"][1] != found.quality["mae"][0]
    assert 0 < found.seconds < 1 and found.batch_size == 1 and found.inner_floats == ()
    share = 100 * found.bytes / found.float32_bytes
    assert f"TFLite file, int8, {found.bytes:,} bytes, {share:.0f} % of" in str(found)


def test_integers_at_both_ends_and_any_number_of_examples(tmp_path, model):
    path = tmp_path / "slim.tflite"
    found = resrep_keras.export(
        model,
        path,
        quantization="int8",
        calibration_data=x,
        inference_type="int8",
        batch_size=None,
        data=x[:3],
    )
    assert found < 0.1 and found.compared == "3 examples of data"
    assert "int8, int8 inputs and outputs," in str(found)
    import tensorflow as tf

    runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    details = {**runner.get_input_details(), **runner.get_output_details()}
    assert {name: d["dtype"] for name, d in details.items()} == {"a": np.int8, "y": np.int8}


def test_a_tolerance_decides(tmp_path, model):
    path = tmp_path / "slim.tflite"
    settings = {"quantization": "dynamic", "data": x}
    with pytest.raises(ValueError, match=r"of the largest output: more than the tolerance\. It is"):
        resrep_keras.export(model, path, tolerance=1e-6, **settings)
    assert not path.exists()
    assert 1e-6 < resrep_keras.export(model, path, tolerance=0.1, **settings) < 0.1


def test_what_is_no_number_in_the_file_alone_is_no_file(tmp_path, model, monkeypatch):
    outputs = TFLiteRunner.outputs
    monkeypatch.setattr(
        TFLiteRunner, "outputs", lambda self: {k: v / 0 for k, v in outputs(self).items()}
    )
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="that its types do not hold"):
        resrep_keras.export(model, tmp_path / "m.tflite", quantization="float16")
    assert not list(tmp_path.iterdir())


def test_calibration_data_that_do_not_fit_are_told_before_anything_is_converted(
    tmp_path, model, monkeypatch
):
    monkeypatch.setattr(keras.export, "ExportArchive", lambda: 1 / 0)
    for data in (x[:, :3], [x, x], iter([x[:4, :3]])):
        with pytest.raises(
            ValueError, match="Expected calibration_data to be arrays of the shapes"
        ):
            resrep_keras.export(
                model, tmp_path / "m.tflite", quantization="int8", calibration_data=data, data=x
            )


def test_a_model_of_one_batch_size(tmp_path):
    inputs = keras.Input(batch_shape=(4, 64), name="a")
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    for settings in ({}, {"quantization": "int8", "calibration_data": x[:8]}):
        found = resrep_keras.export(model, tmp_path / "m.tflite", data=x[:6], **settings)
        assert found < 0.1 and found.compared == "6 examples of data"
