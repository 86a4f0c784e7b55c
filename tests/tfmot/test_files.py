"""export: what quantisation-aware training has made, as a TFLite file of integers."""

import importlib.util
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras import tfmot
from resrep_keras.tflite.run import TFLiteRunner
from tests.tfmot import nets

pytestmark = [
    pytest.mark.tensorflow_only,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_model_optimization") is None, reason="not installed"
    ),
    pytest.mark.filterwarnings("ignore:These layers of model"),
]
TEST = (nets.IMAGES, nets.LABELS)


@pytest.mark.parametrize("name", nets.NETS)
def test_the_whole_way(name, tmp_path):
    """Trained, rounded, trained on, written: all in integers, and as it was trained."""
    model = nets.trained(name)
    before = np.asarray(model(nets.IMAGES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # each layer is quantized
        aware = tfmot.quantize_aware(model, nets.IMAGES)
    apart = np.abs(before - np.asarray(aware(nets.IMAGES, training=False))).max()
    assert 1e-4 < apart / np.abs(before).max() < 0.1
    loss = model.evaluate(*TEST, verbose=0)[0]
    aware.fit(*TEST, epochs=3, verbose=0)
    told = tfmot.export(aware, tmp_path / "a.tflite", model, test_data=TEST)
    trained_loss, accuracy = aware.evaluate(*TEST, verbose=0)
    assert trained_loss < loss
    assert told.quality["loss"][0] == pytest.approx(trained_loss, rel=1e-3)
    assert told.quality["accuracy"][0] == pytest.approx(accuracy)
    assert abs(told.quality["accuracy"][1] - accuracy) < 0.05
    assert told < 0.03  # the largest rounding of any output
    assert told.inner_floats == ()
    assert told.bytes == (tmp_path / "a.tflite").stat().st_size
    assert list(TFLiteRunner((tmp_path / "a.tflite").read_bytes()).random_inputs()) == ["image"]
    np.testing.assert_array_equal(np.asarray(model(nets.IMAGES)), before)  # left as it was


def test_inputs_and_outputs_in_integers_by_their_names(tmp_path):
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    x = layers.Dense(6, activation="relu")(first + second)
    model = keras.Model([first, second], {"b": layers.Dense(2)(x), "a": layers.Dense(3)(x)})
    data = list(np.random.default_rng(0).normal(size=(2, 40, 4)))
    aware = tfmot.quantize_aware(model, data)
    told = tfmot.export(
        aware, tmp_path / "a.tflite", model, data=data, inference_type="int8", latency=True
    )
    assert told < 0.02 and told.seconds > 0
    runner = TFLiteRunner((tmp_path / "a.tflite").read_bytes())
    inputs = runner.random_inputs()
    assert set(inputs) == {"first", "second"}
    runner.set_inputs(inputs)
    runner.invoke()
    assert {name: v.shape for name, v in runner.outputs().items()} == {"a": (1, 3), "b": (1, 2)}


def test_what_does_not_fit_is_told(tmp_path):
    model, path = nets.vgg(), tmp_path / "a.tflite"
    with pytest.raises(TypeError, match="aware"):
        tfmot.export(model, path, model)
    with pytest.raises(ValueError, match=r"in which no layer is quantized.*from_tf_keras"):
        tfmot.export(tfmot.to_tf_keras(model), path, model)
    aware = tfmot.quantize_aware(model)
    with pytest.raises(ValueError, match=r"ends in \.tflite"):
        tfmot.export(aware, tmp_path / "a.keras", model)
    inputs = keras.Input((8, 8, 3))
    wide = keras.Model(inputs, layers.Dense(9)(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match=r"outputs of .*\(None, 9\)"):
        tfmot.export(aware, path, wide)
    assert not path.exists()
