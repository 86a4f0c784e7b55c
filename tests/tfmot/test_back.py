"""from_tf_keras: weights that tfmot has clustered or pruned come back to Keras 3."""

import importlib.util

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import tfmot
from resrep_keras.tfmot.packages import model_optimization
from tests import zoo
from tests.tfmot import nets

pytestmark = [
    pytest.mark.tensorflow_only,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow_model_optimization") is None, reason="not installed"
    ),
]


X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")


def net():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    return zoo.randomise(keras.Model(inputs, keras.layers.Dense(4)(x)))


def kernels(model):
    return [w for w in model.get_weights() if w.ndim > 1]


@pytest.mark.parametrize("name", ["time_distributed", "nested", "bidirectional"])
def test_weights_come_back_where_they_were(name):
    model = zoo.build(name)
    copy = tfmot.to_tf_keras(model)
    copy.set_weights([weight + 0.25 for weight in copy.get_weights()])
    back = tfmot.from_tf_keras(model, copy)
    for one, other in zip(model.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_allclose(other, one + 0.25, rtol=1e-6, atol=1e-6)
    assert back.output_names == model.output_names


def test_clustered_weights_come_back_and_are_exported(tmp_path):
    model = net()
    clustering = model_optimization().clustering.keras
    clustered = clustering.cluster_weights(
        tfmot.to_tf_keras(model),
        number_of_clusters=8,
        cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
    )
    clustered.compile("adam", "mse")
    clustered.fit(X, np.asarray(model(X)), verbose=0)
    back = tfmot.from_tf_keras(model, clustering.strip_clustering(clustered))
    for kernel, before in zip(kernels(back), kernels(model), strict=True):
        assert len(np.unique(kernel)) <= 8 < len(np.unique(before))
    assert 0 < np.abs(np.asarray(back(X)) - model(X)).max() < np.abs(model(X)).max() / 2
    assert resrep_keras.export(back, tmp_path / "a.tflite", data=X) < 1e-5


def test_pruned_weights_come_back():
    model = net()
    sparsity = model_optimization().sparsity.keras
    schedule = sparsity.ConstantSparsity(0.75, begin_step=0, frequency=1)
    pruned = sparsity.prune_low_magnitude(tfmot.to_tf_keras(model), pruning_schedule=schedule)
    pruned.compile("adam", "mse")
    pruned.fit(X, np.asarray(model(X)), callbacks=[sparsity.UpdatePruningStep()], verbose=0)
    back = tfmot.from_tf_keras(model, sparsity.strip_pruning(pruned))
    for kernel in kernels(back):
        assert np.mean(kernel == 0) == pytest.approx(0.75, abs=0.02)


def test_what_is_not_its_copy_is_told():
    model = nets.vgg()
    with pytest.raises(ValueError, match="still has layers"):
        tfmot.from_tf_keras(model, tfmot.quantize_aware(model))
    with pytest.raises(ValueError, match="has no layer 'conv2d"):
        tfmot.from_tf_keras(model, tfmot.to_tf_keras(nets.mobilenet_v2()))
    with pytest.raises(TypeError, match="model of tf_keras"):
        tfmot.from_tf_keras(model, model)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_keras_quantizes_a_slim_model_by_itself(tmp_path):
    """`Model.quantize("int8")` of Keras 3, which needs neither tf_keras nor tfmot."""
    dense = nets.trained("vgg", 1)
    slim = resrep_keras.prune(dense, resrep_keras.MagnitudePruning(target_reduction=0.3))
    before, floats = slim.count_params(), np.asarray(slim(nets.IMAGES))
    slim.quantize("int8")
    apart = np.abs(np.asarray(slim(nets.IMAGES)) - floats).max() / np.abs(floats).max()
    assert 0 < apart < 0.05
    assert slim.count_params() >= before
    slim.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras", compile=False)
    np.testing.assert_allclose(loaded(nets.IMAGES), slim(nets.IMAGES), atol=1e-5)
