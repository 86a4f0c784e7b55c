"""One-shot magnitude pruning: of kernels, and in a run."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras import MagnitudePruning
from tests import zoo
from tests.conditions.training import data, loss, wrapped

pytestmark = pytest.mark.tensorflow_only


def test_one_shot_pruning_meets_the_target_and_leaves_the_dense_model():
    dense = zoo.build("vgg")
    before = dense.count_params()
    slim = MagnitudePruning(target_reduction=0.6).prune(dense)
    assert resrep_keras.count_macs(slim) <= 0.4 * resrep_keras.count_macs(dense)
    assert dense.count_params() == before


def test_one_shot_pruning_takes_the_smallest_kernels():
    inputs = keras.Input((6, 6, 1))
    conv = layers.Conv2D(4, 3, name="conv")
    dense = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(conv(inputs))))
    kernel = np.ones((3, 3, 1, 4)) * np.array([4.0, 1.0, 3.0, 2.0])
    conv.set_weights([kernel, np.zeros(4)])
    # Half of 4 * 16 * (9 + 2) MACs is two channels.
    slim = MagnitudePruning(0.5).prune(dense)
    np.testing.assert_array_equal(slim.get_layer("conv").kernel, kernel[..., [0, 2]])


def test_slim_is_plain_and_trains_on():
    model = wrapped(method=MagnitudePruning(0.4))
    x, y = data()
    model.fit(x, y, epochs=2, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    slim.compile("adam", loss())
    slim.fit(x, y, epochs=1, verbose=0)
    modules = {type(layer).__module__.split(".")[0] for layer in slim.layers}
    assert modules == {"keras"}


BAD = [
    (
        lambda: MagnitudePruning(order=3),
        ValueError,
        "order to be an int of 1 or more and of at most 2; got 3",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()
