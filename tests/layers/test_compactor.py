import keras
import numpy as np
import pytest
from keras import ops

from resrep_keras import Compactor


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((7,), -1), ((4, 7), -1), ((3, 4, 7), -1), ((7, 3, 4), 1), ((2, 3, 4, 7), -1)],
)
def test_applies_its_matrix_along_the_channel_axis(shape, axis, diagonal):
    layer = Compactor(diagonal=diagonal, axis=axis)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), x)
    kernel = np.random.default_rng(1).normal(size=layer.kernel.shape).astype("float32")
    layer.kernel.assign(kernel)
    last = np.moveaxis(x, axis, -1)
    matrix = np.diag(kernel) if diagonal else kernel.reshape(7, 7)
    expected = np.moveaxis(last @ matrix, -1, axis)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, rtol=1e-4, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == x.shape


def test_mask_changes_no_value():
    layer = Compactor()
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype("float32")
    before = ops.convert_to_numpy(layer(x))
    layer.keep_mask.assign([True, False, True, False, False])
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), before)


def test_weights_and_their_shapes():
    layer = Compactor(dtype="mixed_float16")
    layer.build((None, 8, 8, 6))
    assert tuple(layer.kernel.shape) == (1, 1, 6, 6) and layer.kernel.dtype == "float32"
    assert tuple(layer.keep_mask.shape) == (6,) and layer.keep_mask.dtype == "bool"
    assert len(layer.trainable_variables) == 1 and len(layer.non_trainable_variables) == 1
    outputs = layer(np.ones((1, 8, 8, 6), "float16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"


def test_config_round_trip():
    layer = Compactor(diagonal=True, axis=1, activation="relu", name="c")
    revived = Compactor.from_config(layer.get_config())
    assert revived.get_config() == layer.get_config()
    assert vars(revived).keys() == vars(layer).keys()
    assert keras.saving.get_registered_name(Compactor) == "resrep_keras>Compactor"


@pytest.mark.parametrize(
    ("shape", "axis", "text"),
    [
        ((None, 4, 4, None), -1, "known size along axis -1"),
        ((2, 4, 6, 8), 0, "another axis than the batch"),
    ],
)
def test_bad_inputs(shape, axis, text):
    with pytest.raises(ValueError, match=text):
        Compactor(axis=axis).build(shape)
