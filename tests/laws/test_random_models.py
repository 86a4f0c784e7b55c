"""Laws 3 and 4 again, over drawn models: shapes, strides, paddings, joins, sharing and masks.

25 models by default; 300 with `python -m pytest tests/laws/test_random_models.py
--hypothesis-profile=many`.
"""

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery.insert import compactors_by_site, insert_compactors
from resrep_keras.surgery.remove import remove_channels
from tests import helpers, zoo

ACTIVATIONS = ["relu", "swish", "sigmoid", "tanh", "softplus", "linear"]


@st.composite
def blocks(draw):
    """One block: its kind and what it needs."""
    return {
        "kind": draw(
            st.sampled_from(
                "conv depthwise separable transposed grouped add concat gate norm pool shared "
                "slice "
                "nested".split()
            )
        ),
        "filters": draw(st.integers(2, 7)),
        "kernel": draw(st.integers(1, 3)),
        "strides": draw(st.integers(1, 2)),
        "padding": draw(st.sampled_from(["same", "valid"])),
        "bias": draw(st.booleans()),
        "norm": draw(st.booleans()),
        "activation": draw(st.sampled_from(ACTIVATIONS)),
    }


def convolve(x, b, filters=None, kernel=None, strides=1, padding="same"):
    filters, kernel = filters or b["filters"], kernel or b["kernel"]
    fused = None if b["norm"] else b["activation"]
    x = layers.Conv2D(
        filters, kernel, strides=strides, padding=padding, use_bias=b["bias"], activation=fused
    )(x)
    return layers.Activation(b["activation"])(layers.BatchNormalization()(x)) if b["norm"] else x


def extend(x, b):
    channels = x.shape[-1]
    if b["kind"] == "conv":
        padding = b["padding"] if x.shape[1] > 3 else "same"
        return convolve(x, b, strides=b["strides"] if x.shape[1] > 3 else 1, padding=padding)
    if b["kind"] == "depthwise":
        return layers.DepthwiseConv2D(
            b["kernel"], padding="same", use_bias=b["bias"], activation=b["activation"]
        )(x)
    if b["kind"] == "add":
        return layers.Add()([x, convolve(convolve(x, b), b, filters=channels)])
    if b["kind"] == "concat":
        return layers.Concatenate()([x, convolve(x, b)])
    if b["kind"] == "gate":
        s = layers.GlobalAveragePooling2D(keepdims=True)(x)
        s = layers.Conv2D(channels, 1, activation="sigmoid")(convolve(s, b, kernel=1))
        return layers.Multiply()([x, s])
    if b["kind"] == "separable":
        return layers.SeparableConv2D(
            b["filters"], b["kernel"], padding="same", activation=b["activation"]
        )(x)
    if b["kind"] == "transposed":
        return layers.Conv2DTranspose(
            b["filters"], b["kernel"], strides=b["strides"], padding=b["padding"]
        )(x)
    if b["kind"] == "grouped":
        x = layers.Conv2D(6, 1, activation=b["activation"])(x)
        return layers.Conv2D(2 * b["filters"], b["kernel"], padding="same", groups=2)(x)
    if b["kind"] == "shared":
        shared = layers.Conv2D(channels, b["kernel"], padding="same", activation=b["activation"])
        return layers.Add()([shared(x), shared(shared(x))])
    if b["kind"] == "slice":
        return ops.concatenate([x[..., 1:], ops.tanh(x[..., :1])], axis=-1)
    if b["kind"] == "nested":
        inner = keras.Input(x.shape[1:])
        return keras.Model(inner, convolve(convolve(inner, b), b, strides=1))(x)
    if b["kind"] == "norm":
        return layers.Activation(b["activation"])(layers.BatchNormalization()(x))
    return layers.AveragePooling2D(2, 1, padding="same")(x)


def reference(graph, kept):
    """The masked model: compactors whose removed columns are zero."""
    sites = {s.name: s for g in graph.groups if not kept[g.channels].all() for s in g.sites}
    masked = insert_compactors(graph, sites.values(), diagonal=set(sites))
    for name, compactor in compactors_by_site(recording_of(masked)).items():
        channels = sites[name].channels
        column = np.where(channels < 0, True, kept[np.maximum(channels, 0)])
        compactor.kernel.assign(column.astype("float32"))
    return masked


@settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(blocks(), min_size=2, max_size=5), st.integers(0, 1000), st.booleans())
def test_drawn_models_keep_the_law(drawn, seed, flatten):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((7, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    for block in drawn:
        x = extend(x, block)
    x = layers.Flatten()(x) if flatten else layers.GlobalAveragePooling2D()(x)
    model = zoo.randomise(keras.Model(inputs, layers.Dense(3)(x)), seed)
    graph = resrep_keras.trace(model)
    kept = helpers.random_keep(graph, [g for g in graph.groups if g.prunable], seed, share=0.5)
    slim = remove_channels(model, graph.keep_by_producer(kept))
    assert helpers.difference(reference(graph, kept), slim) <= 1e-4
    assert MacCost(graph)(kept) == resrep_keras.count_macs(slim)
