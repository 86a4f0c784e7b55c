"""quantize_aware: where ranges begin, what is left in float32, and what tfmot gets wrong."""

import importlib.util

import keras
import numpy as np
import pytest
from keras import layers

from resrep_keras import tfmot
from tests import zoo
from tests.tfmot import nets

pytestmark = [
    pytest.mark.tensorflow_only,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_model_optimization") is None, reason="not installed"
    ),
]


def logits(model, x=nets.IMAGES):
    return np.asarray(model(x, training=False))


def test_without_calibration_ranges_begin_as_those_of_tfmot():
    aware = tfmot.quantize_aware(nets.vgg())
    ranges = [w for w in aware.weights if "post_activation_m" in w.name]
    assert {float(w) for w in ranges} == {-6.0, 6.0}


def test_ranges_are_those_of_all_examples():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, use_bias=False, name="sum")(inputs))
    model.layers[-1].set_weights([np.ones((2, 1))])
    x = np.zeros((100, 2))
    x[3], x[70] = (1, 2), (-3, -4)  # in different batches
    aware = tfmot.quantize_aware(model, x)
    found = {w.name.split("/")[-1]: w.numpy() for w in aware.weights if w.shape.rank < 2}
    assert found["post_activation_min:0"] == pytest.approx(-7, abs=0.1)
    assert found["post_activation_max:0"] == pytest.approx(3, abs=0.1)
    assert found["quantize_layer_min:0"] == [-4] and found["quantize_layer_max:0"] == [2]


# --- what stays in float32 ------------------------------------------------------------------------


def test_layers_that_tfmot_does_not_know_are_left_out_and_named():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="softplus", name="own_conv")(inputs)
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = shared(shared(x))
    x = layers.BatchNormalization(name="free")(layers.MaxPooling2D(name="pool")(x))
    x = layers.Dense(3, name="head")(layers.Flatten()(layers.PReLU(name="prelu")(x)))
    model = zoo.randomise(keras.Model(inputs, x))
    with pytest.warns(UserWarning, match="in float32.*: free, own_conv, prelu, shared.$"):
        aware = tfmot.quantize_aware(model, nets.IMAGES)
    names = {layer.name for layer in aware.layers}
    assert {"quant_head", "quant_pool", "prelu"} <= names
    apart = np.abs(logits(model) - logits(aware)).max()
    assert 0 < apart < 0.1 * np.abs(logits(model)).max()


def test_layers_are_left_out_by_name():
    model = nets.vgg()
    first, last = model.layers[1].name, model.layers[-1].name
    with pytest.warns(UserWarning, match=first):
        aware = tfmot.quantize_aware(model, leave_out=[first, last])
    assert type(aware.get_layer(last)).__name__ == "Dense"
    with pytest.raises(ValueError, match="none called 'nowhere'"):
        tfmot.quantize_aware(model, leave_out=["nowhere"])
    every = [layer.name for layer in model.layers[1:]]
    with pytest.raises(ValueError, match="no layer that"):
        tfmot.quantize_aware(model, leave_out=every)


@pytest.mark.parametrize("name", ["concatenate", "squeeze_excite", "multi_input_output"])
@pytest.mark.filterwarnings("ignore:These layers of model")
def test_inputs_keep_their_order(name):
    """tfmot's own transform of Concatenate changes it."""
    model = zoo.build(name)
    inputs = keras.tree.map_structure(
        lambda x: np.random.default_rng(0).normal(size=(64, *x.shape[1:])).astype("float32"),
        model.input,
    )
    aware = tfmot.quantize_aware(model, inputs)
    answers = [keras.tree.flatten(each(inputs, training=False)) for each in (model, aware)]
    for one, other in (map(np.asarray, pair) for pair in zip(*answers)):
        assert np.abs(one - other).max() < 0.1 * np.abs(one).max()


def test_an_einsum_that_tf_keras_cannot_copy_is_told():
    inputs = keras.Input((4, 3))
    x = keras.ops.einsum("bij,bkj->bik", inputs, inputs)
    with pytest.raises(ValueError, match=r"calls keras\.ops\.einsum \(tf\.einsum\)"):
        tfmot.quantize_aware(keras.Model(inputs, layers.Dense(2)(x)))


def test_what_tfmot_gets_wrong_is_refused(monkeypatch):
    from resrep_keras.tfmot import aware

    made = aware.model_optimization().quantization.keras.quantize_apply

    def wrong(model, scheme):
        found = made(model, scheme)
        found.set_weights([1.5 * weight for weight in found.get_weights()])
        return found

    monkeypatch.setattr(aware.model_optimization().quantization.keras, "quantize_apply", wrong)
    with pytest.raises(ValueError, match="computes something else"):
        tfmot.quantize_aware(nets.trained("vgg", 1))
