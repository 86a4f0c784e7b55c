"""Models as users bring them: wrap, fit, finalize, export to TFLite."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from tests import zoo
from tests.sampling import sample

pytestmark = pytest.mark.tensorflow_only
MODELS = {}


def model(build):
    MODELS[build.__name__] = build
    return build


@model
def video_classifier():
    """A CNN for each picture, both directions of an LSTM, attention over time."""
    inputs = keras.Input((4, 12, 12, 3))
    cnn = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
        ]
    )
    x = layers.TimeDistributed(cnn)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Concatenate()([x, layers.Attention()([x, x])])
    x = layers.Dense(8, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@model
def siamese():
    tower = keras.Sequential(
        [
            keras.Input((10, 10, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Conv2D(12, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    a, b = keras.Input((10, 10, 1), name="a"), keras.Input((10, 10, 1), name="b")
    same = layers.Dot(1, normalize=True)([tower(a), tower(b)])
    return keras.Model({"a": a, "b": b}, same)


@model
def u_net():
    inputs = keras.Input((16, 16, 3))
    x, skips = inputs, []
    for filters in (8, 12):
        x = zoo.conv_bn(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = zoo.conv_bn(x, 16)
    for filters, skip in zip((12, 8), reversed(skips)):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = zoo.conv_bn(layers.Concatenate()([x, skip]), filters)
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="sigmoid")(x))


@model
def detector():
    """Two heads over two scales: classes and boxes."""
    inputs = keras.Input((16, 16, 3))
    fine = zoo.conv_bn(zoo.conv_bn(inputs, 8, strides=2), 12)
    coarse = zoo.conv_bn(fine, 16, strides=2)
    fine = layers.Add()(
        [layers.Conv2D(12, 1)(fine), layers.UpSampling2D()(layers.Conv2D(12, 1)(coarse))]
    )
    share = layers.Conv2D(10, 3, padding="same", activation="relu")
    classes, boxes = layers.Conv2D(4, 1), layers.Conv2D(4, 1, activation="exponential")
    levels = [share(fine), share(layers.Conv2D(12, 1)(coarse))]
    outputs = {
        "classes": [layers.Reshape((-1, 4))(classes(level)) for level in levels],
        "boxes": [layers.Reshape((-1, 4))(boxes(level)) for level in levels],
    }
    outputs = {key: layers.Concatenate(axis=1)(value) for key, value in outputs.items()}
    return keras.Model(inputs, outputs)


@model
def vision_transformer():
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 12))(layers.Conv2D(12, 4, strides=4)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 6)(y, y)
        y = layers.Dense(24, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(12)(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@model
def subclassed_resnet():
    return zoo.ZOO["subclassed"]()


def batch(structure, number):
    generator = np.random.default_rng(0)
    return keras.tree.map_structure(
        lambda x: generator.normal(size=(number, *x.shape[1:])).astype("float32"), structure
    )


@pytest.mark.parametrize("name", sample([*MODELS], every=3))
def test_wrap_fit_finalize_tflite(name, tmp_path):
    dense = MODELS[name]()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.3))
    wrapped.compile(keras.optimizers.Adam(1e-3), "mse")
    x, y = batch(wrapped.input, 16), batch(wrapped.output, 16)
    wrapped.fit(x, y, batch_size=2, epochs=5, verbose=0)
    slim = resrep_keras.finalize(wrapped, strict=True, data=x)

    assert slim.certificate.max_relative <= 1e-4
    assert slim.certificate.data_max_relative <= 1e-4
    assert slim.certificate.inexact == ()
    assert slim.certificate.macs_left <= 0.7
    assert resrep_keras.count_macs(slim) == slim.certificate.macs_slim
    assert resrep_keras.export(slim, tmp_path / "slim.keras") <= 1e-6
    assert resrep_keras.export(slim, tmp_path / "slim.tflite") <= 1e-4


def test_the_transformer_prunes_heads_widths_and_hidden_layers():
    graph = resrep_keras.trace(MODELS["vision_transformer"]())
    groups = {group.name: group.size for group in graph.groups if group.prunable}
    assert sorted(groups.values()) == [4, 4, 6, 6, 6, 6, 24, 24]
    assert sum("heads" in name for name in groups) == 2
    stream = next(group for group in graph.groups if group.coupled)
    assert "LayerNormalization" in str(stream.reason)


def test_inexact_groups_are_pruned_on_request_and_listed():
    dense = zoo.randomise(MODELS["vision_transformer"]())
    method = resrep_keras.MagnitudePruning(0.4, coupled=True, exact=False)
    slim = method.prune(dense)
    assert slim.layers[1].filters < 12
    assert resrep_keras.count_macs(slim) <= 0.6 * resrep_keras.count_macs(dense)

    wrapped = resrep_keras.wrap(dense, method)
    wrapped.compile("sgd", "mse")
    x = batch(dense.input, 4)
    wrapped.fit(x, batch(dense.output, 4), epochs=1, verbose=0)
    certificate = resrep_keras.finalize(wrapped, strict=True, data=x).certificate
    assert [name for name, _ in certificate.inexact]
    assert all("LayerNormalization" in reason for _, reason in certificate.inexact)
    assert certificate.max_relative > 1e-4


def test_the_transposed_convolutions_of_a_u_net_are_free():
    graph = resrep_keras.trace(MODELS["u_net"]())
    assert all(group.prunable for group in graph.groups[:-1])
