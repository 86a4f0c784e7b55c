"""finalize as a user meets it: what it says of targets, masks and diverged runs."""

import numpy as np
import pytest
from keras import layers

import resrep_keras
from tests import helpers, zoo
from tests.conditions.training import wrapped

pytestmark = pytest.mark.tensorflow_only


def test_finalize_before_training_warns_and_strict_raises():
    model = wrapped()
    with pytest.warns(
        UserWarning, match=r"target is not met: target_reduction=0.5 of macs, but 0.0000"
    ):
        slim = resrep_keras.finalize(model)
    assert resrep_keras.count_macs(slim) == slim.certificate.macs_dense
    with pytest.raises(ValueError, match="The target is not met"):
        resrep_keras.finalize(model, strict=True)


def test_masked_channels_above_the_threshold_are_kept_and_named():
    model = wrapped()
    layer = helpers.compactors(model)[0]
    layer.keep_mask.assign([False, False, True, True, True, True])
    layer.kernel.assign(layer.kernel * np.array([1e-6, 1, 1, 1, 1, 1]))
    with pytest.warns(UserWarning) as caught:
        slim = resrep_keras.finalize(model)
    assert "1 masked channels are still above the threshold (largest norm 1)" in "".join(
        str(warning.message) for warning in caught
    )
    widths = [layer.filters for layer in slim.layers if isinstance(layer, layers.Conv2D)]
    assert 5 in widths


def test_a_layer_whose_channels_are_all_dead_keeps_one():
    model = wrapped()
    layer = helpers.compactors(model)[0]
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    with pytest.warns(UserWarning, match="target is not met"):
        slim = resrep_keras.finalize(model)
    assert helpers.difference(model, slim) <= 1e-4


def test_a_diverged_training_is_called_that():
    model = wrapped()
    kernel = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D)).kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with (
        pytest.warns(UserWarning, match="target is not met"),
        pytest.warns(UserWarning, match="not comparable on random inputs: an output of both"),
        pytest.warns(UserWarning, match="The training has diverged: 'conv2d.*' hold NaN"),
    ):
        resrep_keras.finalize(model)


BAD = [
    (lambda: resrep_keras.finalize(zoo.build("vgg")), ValueError, "has no compactors.*wrap"),
    (
        lambda: resrep_keras.finalize(None),
        TypeError,
        r"Expected model to be a built keras\.Model; got None",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()
