"""MACs against arithmetic and published numbers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs import macs as macs_module
from resrep_keras.costs.macs import MacCost
from tests import paths

# The final widths of conv1 and conv2 in each bottleneck, from the authors' log (ResNet-50).
AUTHORS_WIDTHS = [
    [(22, 22), (23, 36), (1, 1)],
    [(62, 97), (16, 49), (38, 68), (41, 92)],
    [(189, 204), (69, 145), (65, 139), (64, 94), (67, 89), (86, 95)],
    [(473, 488), (171, 282), (511, 512)],
]


def test_conv_and_dense_as_arithmetic():
    x = inputs = keras.Input((10, 12, 3))
    x = layers.Conv2D(8, (3, 5), strides=2, padding="same", use_bias=True)(x)  # 5 x 6
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)  # 3 x 4
    x = layers.Conv2D(6, 1, groups=2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(7)(x)
    model = keras.Model(inputs, x)
    expected = (
        5 * 6 * (3 * 5 * 3) * 8 + 3 * 4 * (3 * 3) * 16 + 3 * 4 * (16 // 2) * 6 + (3 * 4 * 6) * 7
    )
    assert resrep_keras.count_macs(model) == expected


def test_dense_on_sequences_counts_every_position():
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(4)])
    assert resrep_keras.count_macs(model) == 5 * 3 * 4


def test_layers_without_weights_count_nothing():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    )
    assert resrep_keras.count_macs(model) == 0


def test_shared_layers_count_at_each_call():
    conv = layers.Conv2D(2, 3)
    a, b = keras.Input((5, 5, 1)), keras.Input((5, 5, 1))
    model = keras.Model([a, b], layers.Add()([conv(a), conv(b)]))
    assert resrep_keras.count_macs(model) == 2 * (3 * 3 * 9 * 1 * 2)


def test_unknown_size_asks_for_an_input_shape():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3, name="first")])
    with pytest.raises(ValueError, match=r"'first' depends on its input shape.*input_shape="):
        resrep_keras.count_macs(model)
    assert resrep_keras.count_macs(model, input_shape=(7, 8, 3)) == 5 * 6 * 9 * 3 * 4


def test_published_resnet50_of_keras():
    # 4,089,184,256 less the stride-2 1x1 convolutions computed at the smaller size.
    assert resrep_keras.count_macs(keras.applications.ResNet50(weights=None)) == 3_857_973_248


def test_published_resnet50_of_torchvision_and_the_authors_result():
    nets = paths.examples("nets")
    graph = resrep_keras.trace(nets.resnet50())
    cost = MacCost(graph)
    assert cost() == 4_089_184_256
    keep = {}
    for stage, blocks in enumerate(AUTHORS_WIDTHS, start=1):
        for block, widths in enumerate(blocks):
            for conv, width in enumerate(widths, start=1):
                channels = 64 * 2 ** (stage - 1)
                keep[f"stage{stage}_block{block}_conv{conv}"] = np.arange(channels) < width
    left = cost(graph.keep_array(keep)) / cost()
    assert round(left, 4) == 0.4546


def test_wrap_adds_at_most_15_percent_to_resnet50():
    nets = paths.examples("nets")
    wrapped = resrep_keras.wrap(nets.resnet50())
    assert resrep_keras.count_macs(wrapped) <= 1.15 * 4_089_184_256


SEQUENCE = (5, 6)  # 5 steps of 6 features


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        # Each gate of a unit reads the input and the units, at each step.
        (lambda: layers.LSTM(7), SEQUENCE, 5 * 4 * 7 * (6 + 7)),
        (lambda: layers.GRU(7), SEQUENCE, 5 * 3 * 7 * (6 + 7)),
        (lambda: layers.SimpleRNN(7), SEQUENCE, 5 * 7 * (6 + 7)),
        (lambda: layers.Bidirectional(layers.LSTM(7)), SEQUENCE, 2 * 5 * 4 * 7 * (6 + 7)),
        (lambda: layers.TimeDistributed(layers.Dense(7)), SEQUENCE, 5 * 6 * 7),
        (lambda: layers.EinsumDense("abc,cd->abd", (None, 7)), SEQUENCE, 5 * 6 * 7),
        (lambda: layers.SeparableConv1D(7, 3, padding="same"), SEQUENCE, 5 * 3 * 6 + 5 * 6 * 7),
        (lambda: layers.Conv1DTranspose(7, 3), SEQUENCE, 5 * 3 * 6 * 7),
        (lambda: layers.Conv1D(8, 3, padding="same", groups=2), SEQUENCE, 5 * 3 * (6 // 2) * 8),
        (lambda: layers.Embedding(9, 7), (5,), 0),
        # A 3x3 state map: the input at 5 steps, and the state, each with a 2x2 kernel.
        (lambda: layers.ConvLSTM2D(7, 2), (5, 4, 4, 2), 5 * 9 * 4 * 4 * 7 * (2 + 7)),
    ],
)
def test_published_formulas(layer, shape, macs):
    inputs = keras.Input(shape)
    assert resrep_keras.count_macs(keras.Model(inputs, layer()(inputs))) == macs


def test_attention_counts_projections_scores_and_sums():
    """4 heads; keys of width 3, values of width 2; 5 queries of 6 features, 8 values of 7."""
    query, value = keras.Input((5, 6)), keras.Input((8, 7))
    out = layers.MultiHeadAttention(4, 3, value_dim=2)(query, value)
    projections = 5 * 6 * 4 * 3 + 8 * 7 * 4 * 3 + 8 * 7 * 4 * 2 + 5 * 4 * 2 * 6
    scores = 5 * 8 * 4 * 3 + 5 * 8 * 4 * 2
    model = keras.Model([query, value], out)
    assert resrep_keras.count_macs(model) == projections + scores


def test_calls_that_are_alike_are_looked_into_once(monkeypatch):
    class Squashed(layers.Layer):
        def call(self, x):
            return x * ops.sigmoid(x)

    seen = []
    look_inside = macs_module.look_inside
    monkeypatch.setattr(
        macs_module,
        "look_inside",
        lambda *given, **more: seen.append(given) or look_inside(*given, **more),
    )
    x = inputs = keras.Input((6,))
    for _ in range(4):
        x = Squashed()(layers.Dense(6)(x))
    resrep_keras.wrap(keras.Model(inputs, layers.Dense(2)(x)), resrep_keras.ResRep(0.01))
    assert len(seen) <= 3
