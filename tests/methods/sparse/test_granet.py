"""GraNet through wrap, fit, finalize and export; removal of channels whose weights are zero."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.trace import recording_of, trace
from resrep_keras.methods.sparse.densities import density_of
from resrep_keras.methods.sparse.granet import GraNet
from resrep_keras.surgery.channel_weights import producing_weights
from tests import helpers, zoo
from tests.sampling import sample

METHODS = {
    "granet": GraNet(final_sparsity=0.8),
    "sparse_to_sparse": GraNet.sparse_to_sparse(0.8),
    "gmp": GraNet.gmp(0.8, interval=2),
    "rigl": GraNet.rigl(0.8),
    "set": GraNet.set(0.8, seed=3),
    "static": GraNet.static(0.8, distribution="uniform"),
    "by layer": GraNet(final_sparsity=0.8, scope="layer", exclude=("head",)),
}


def net(units=(32, 16)):
    x = inputs = keras.Input((20,))
    for width in units:
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(x), name="net")


def compiled(model, optimizer="sgd"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def fit(model, epochs=5, **kwargs):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(64, 20)).astype("float32"), generator.integers(0, 4, 64)
    return model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **kwargs)


@pytest.mark.parametrize("kind", sample(METHODS, every=3))
def test_the_whole_way_ends_exactly_at_the_target(kind):
    method = METHODS[kind]
    dense = compiled(net(), keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    model = resrep_keras.wrap(dense, method)
    assert helpers.difference(dense, model) == 0  # a sparse start, too, begins with fit()
    history = fit(model).history["sparsity"]
    total = sum(k.size for k in model.optimizer.masks().values())
    exact = 1 - round(total * 0.2) / total
    assert history[-1] == exact and method.target_met(model)
    assert history == sorted(history)
    if method.initial_sparsity == 0.8:
        assert set(history) == {exact}
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.max_relative < 1e-5
    assert not any("resrep" in type(layer).__module__ for layer in slim.layers)
    if [w.shape for w in slim.weights] == [w.shape for w in model.weights]:
        for kernel in slim.weights:
            mask = model.optimizer.masks().get(kernel.path)
            if mask is not None:
                np.testing.assert_array_equal(ops.convert_to_numpy(kernel)[~mask], 0)
        assert density_of(slim)["total"]["zeros"] >= total - round(total * 0.2)


@pytest.mark.tensorflow_only
def test_the_run_may_be_saved_and_loaded_in_the_middle(tmp_path):
    def begin():
        keras.utils.set_random_seed(1)
        return resrep_keras.wrap(compiled(net(), "adam"), GraNet(final_sparsity=0.8))

    whole = begin()
    fit(whole)
    part = begin()
    # The plan is that of the whole run; the interruption comes from outside.
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(part, "stop_training", epoch == 1)
    )
    fit(part, callbacks=[stop])
    part.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.method == whole.method
    with pytest.warns(UserWarning, match=r"not met: final_sparsity=0.8, but 0.\d+ of the weights"):
        resrep_keras.finalize(loaded)
    fit(loaded, initial_epoch=2)
    for ours, theirs in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    loaded.save_weights(tmp_path / "w.weights.h5")
    fresh = resrep_keras.wrap(net(), GraNet(final_sparsity=0.8))
    fresh.set_weights(loaded.get_weights())
    assert fresh.method.target_met(fresh)  # counted in the weights, without an optimizer


def test_methods_by_their_names():
    assert GraNet(0.8).final_sparsity == 0.8 and GraNet(0.8).initial_sparsity == 0
    assert GraNet.gmp(0.7).regrow_rate == 0 and GraNet.gmp(0.7).initial_sparsity == 0
    assert GraNet.rigl(0.7).initial_sparsity == GraNet.rigl(0.7).final_sparsity == 0.7
    assert GraNet.set(0.7).growth == "random" and GraNet.rigl(0.7).growth == "gradient"
    assert GraNet.static(0.7).regrow_rate == 0
    assert GraNet.sparse_to_sparse(0.7).initial_sparsity == 0.5


def test_bad_settings():
    with pytest.raises(ValueError, match=r"final_sparsity to be a number .* below 1; got 1.2"):
        GraNet(final_sparsity=1.2)
    with pytest.raises(ValueError, match="total_steps to be an int of 1 or more; got 0"):
        GraNet(total_steps=0)
    with pytest.raises(ValueError, match=r"fit a layer or the path of a kernel.*got 'nowhere'"):
        resrep_keras.wrap(net(), GraNet(exclude=["nowhere"]))
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="path ends in 'kernel'; found none"):
        resrep_keras.wrap(keras.Model(inputs, layers.ReLU()(inputs)), GraNet())


# --- channels of zero weights ---------------------------------------------------------------------


def kill(model, share=0.4, seed=0, biases=True):
    """Set the weights of some channels of every group to zero, in all their producers."""
    generator = np.random.default_rng(seed)
    operations = {recorded.name: recorded.operation for recorded in recording_of(model).all_calls()}
    number = 0
    for group in trace(model).groups:
        dead = set(group.channels[generator.uniform(size=group.size) < share].tolist())
        for producer in group.producers:
            layer = operations[producer.layer]
            if not hasattr(layer, "kernel") or producer.inside is not None:
                continue
            columns = [i for i, c in enumerate(producer.channels) if int(c) in dead]
            kernel = ops.convert_to_numpy(layer.kernel).copy()
            axis = -2 if "Transpose" in type(layer).__name__ else -1
            np.moveaxis(kernel, axis, -1)[..., columns] = 0
            layer.kernel.assign(kernel)
            if not biases and getattr(layer, "bias", None) is not None:
                bias = ops.convert_to_numpy(layer.bias).copy()
                bias[columns] = 0
                layer.bias.assign(bias)
            number += len(columns)
    return number


def kernel_widths(model):
    return [w.shape[-1] for w in model.weights if w.path.endswith("kernel")]


@pytest.mark.parametrize("biases", [True, False], ids=["with biases", "biases zero"])
@helpers.each_kind(zoo.ZOO)
def test_removing_channels_of_zero_weights_changes_no_output(name, biases):
    model = zoo.build(name)
    kill(model, biases=biases)
    assert helpers.difference(model, helpers.remove_zero_channels(model)) < 1e-5


@pytest.mark.parametrize("name", ["chain", "vgg", "mlp", "bottleneck", "residual", "concatenate"])
def test_channels_do_go(name):
    model = zoo.build(name)
    kill(model, biases=False)
    for layer in model.layers:  # no offsets: zero stays zero
        if isinstance(layer, layers.BatchNormalization):
            for offset in (layer.beta, layer.moving_mean):
                offset.assign(ops.zeros_like(offset))
    slim = helpers.remove_zero_channels(model)
    assert resrep_keras.count_params(slim) < 0.8 * resrep_keras.count_params(model)
    assert helpers.difference(model, slim) < 1e-5


def test_the_bias_of_a_zero_channel_goes_into_the_next_layer():
    model = net((6, 5))
    first, second, _ = (layer for layer in model.layers if layer.weights)
    generator = np.random.default_rng(0)
    for layer in (first, second):
        layer.bias.assign(generator.normal(size=layer.bias.shape))
    kernel = ops.convert_to_numpy(first.kernel).copy()
    kernel[:, [1, 4]] = 0
    first.kernel.assign(kernel)
    before = [ops.convert_to_numpy(w).copy() for w in second.weights]
    constants = np.maximum(ops.convert_to_numpy(first.bias)[[1, 4]], 0)
    slim = helpers.remove_zero_channels(model)
    assert kernel_widths(slim) == [4, 5, 4]
    expected = before[1] + constants @ before[0][[1, 4]]
    np.testing.assert_allclose(
        ops.convert_to_numpy(slim.get_layer(second.name).bias), expected, rtol=1e-5
    )
    assert [layer.name for layer in slim.layers[1:]] == [layer.name for layer in model.layers[1:]]
    assert slim.get_layer(first.name).activation is keras.activations.relu
    assert helpers.difference(model, slim) < 1e-5


@pytest.mark.parametrize(
    ("padding", "bias", "expected"),
    [("same", 0.7, 6), ("same", 0.0, 5), ("same", -0.7, 5), ("valid", 0.7, 5), ("valid", 0.0, 5)],
)
def test_a_constant_stays_where_a_convolution_sees_the_border(padding, bias, expected):
    """A negative bias ends at the ReLU: behind it there is nothing to fold."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="first")(x)
    x = layers.Conv2D(4, 3, padding=padding, name="second")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    kernel = ops.convert_to_numpy(model.get_layer("first").kernel).copy()
    kernel[..., 2] = 0
    model.get_layer("first").kernel.assign(kernel)
    model.get_layer("first").bias.assign([0.1, 0.2, bias, 0.3, 0.4, 0.5])
    slim = helpers.remove_zero_channels(model)
    assert kernel_widths(slim)[0] == expected
    assert helpers.difference(model, slim) < 1e-5


def test_a_residual_channel_goes_only_where_all_its_producers_are_zero():
    model = zoo.build("residual")
    group = next(g for g in trace(model).groups if g.coupled)
    operations = {recorded.name: recorded.operation for recorded in recording_of(model).all_calls()}

    def zero(producer, position):
        layer = operations[producer.layer]
        assert producing_weights(layer).shape[-1] == len(producer.channels)
        kernel = ops.convert_to_numpy(layer.kernel).copy()
        kernel[..., list(producer.channels).index(group.channels[position])] = 0
        layer.kernel.assign(kernel)

    for offset in (w for w in model.weights if w.path.endswith(("beta", "moving_mean"))):
        offset.assign(ops.zeros_like(offset))
    makers = [producer for producer in group.producers if not producer.follows]
    for producer in makers[:-1]:
        zero(producer, 0)
    assert helpers.remove_zero_channels(model) is model
    zero(makers[-1], 0)
    slim = helpers.remove_zero_channels(model)
    assert resrep_keras.count_params(slim) < resrep_keras.count_params(model)
    assert helpers.difference(model, slim) < 1e-5


def test_a_layer_of_zeros_keeps_a_channel():
    model = net((6, 5))
    model.layers[1].kernel.assign(np.zeros((20, 6)))
    slim = helpers.remove_zero_channels(model)
    assert kernel_widths(slim) == [1, 5, 4]
    assert helpers.difference(model, slim) < 1e-5


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.tensorflow_only
def test_a_sparse_file_is_smaller_and_computes_the_same(tmp_path):
    model = net((256, 128))
    generator = np.random.default_rng(0)
    for kernel in (w for w in model.weights if w.path.endswith("kernel")):
        values = ops.convert_to_numpy(kernel).copy()
        values[generator.uniform(size=values.shape) < 0.9] = 0
        kernel.assign(values)
    sizes = []
    for sparse in (False, True):
        path = tmp_path / f"{sparse}.tflite"
        assert resrep_keras.export(model, path, sparse=sparse) < 1e-5
        sizes.append(path.stat().st_size)
    kept = sum(d["size"] - d["zeros"] for n, d in density_of(model).items() if n != "total")
    # A number and its place for each weight that is left, and something for each row.
    assert sizes[1] < 4 * 1.5 * kept + 8000 < sizes[0] / 3


@pytest.mark.tensorflow_only
def test_only_tflite_files_are_sparse(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.tflite with sparse=True; got '.*m\.keras'"):
        resrep_keras.export(net(), tmp_path / "m.keras", sparse=True)
