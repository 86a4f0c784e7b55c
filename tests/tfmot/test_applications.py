"""Every application of Keras is the same function in Keras 2.

In float32 the two are apart by rounding: Keras 3 normalises by `x * a + b`, Keras 2 by
`(x - mean) * a + b`, which a hundred layers can blow up to a visible difference in either of the
two. So both are computed in float64, where a difference of 1e-6 would be one of meaning, and in
float32 the copy must be about as near to that as Keras itself is.
"""

import numpy as np
import pytest

from resrep_keras import tfmot
from resrep_keras.surgery.heads import largest_difference
from resrep_keras.tflite.precision import in_float64
from resrep_keras.tfmot.doubles import difference_in_float64
from tests import paths

pytestmark = pytest.mark.tensorflow_only
pytest.importorskip("tf_keras")

families = paths.benchmarks("families")
IMAGES = 4
HOLDS_NUMBERS = ("MobileNetV3Small", "MobileNetV3Large")


def pictures(model):
    """Images of different colours: of noise alone, a net averages the same."""
    generator = np.random.default_rng(3)
    noise = generator.normal(size=(IMAGES, *model.input_shape[1:]))
    return (noise + generator.normal(size=(IMAGES, 1, 1, 3))).astype("float32")


def outputs_of(model, images):
    return np.asarray(model(images, training=False), np.float64)


def apart(expected, found):
    return largest_difference([expected], [found]).relative


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "MobileNetV2" else pytest.mark.slow)
        for name in families.ALL
    ],
)
def test_an_application_is_the_same_function_in_keras_2(name):
    model = families.build(name)
    images = pictures(model)
    copy = tfmot.to_tf_keras(model)
    expected = outputs_of(in_float64(model), images)
    assert np.isfinite(expected).all()
    assert np.ptp(expected, axis=0).max() > 0.01 * np.abs(expected).max()  # images differ
    rounding = apart(expected, outputs_of(model, images))
    # What the copy holds as a number, such as a factor of 1/6, is float32 in float64, too.
    within = rounding if name in HOLDS_NUMBERS else 1e-6
    assert difference_in_float64(model, copy, images).relative <= within
    assert apart(expected, outputs_of(copy, images)) <= max(1e-6, 10 * rounding)
