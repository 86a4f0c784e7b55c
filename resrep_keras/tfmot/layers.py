"""Keras's own layers in tf_keras: one rule for most, and one for each difference."""

import dataclasses

import keras
import numpy as np

from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.keras_adapter import application_classes, layer_classes
from resrep_keras.tfmot.activations import in_layers, name_in_keras_2, name_of
from resrep_keras.tfmot.counterparts import Followed, NotTaken, counterpart
from resrep_keras.tfmot.packages import keras_2
from resrep_keras.tfmot.settings import settings_of

SAME = (
    *("ActivityRegularization", "Add", "AdditiveAttention", "AlphaDropout", "Attention"),
    *("Average", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D"),
    *("BatchNormalization", "CategoryEncoding", "CenterCrop", "Concatenate"),
    *("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Cropping1D", "Cropping2D", "Cropping3D"),
    *("Dot", "Dropout", "ELU", "Embedding", "Flatten", "GaussianDropout", "GaussianNoise"),
    *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D"),
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GRU", "GRUCell"),
    *("GroupNormalization", "Identity", "LayerNormalization", "LSTM", "LSTMCell", "Masking"),
    *("Maximum", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Minimum", "Multiply"),
    *("MultiHeadAttention", "Permute", "PReLU", "ReLU", "RepeatVector", "Rescaling", "Reshape"),
    *("SimpleRNN", "SimpleRNNCell", "Softmax", "SpatialDropout1D", "SpatialDropout2D"),
    *("SpatialDropout3D", "Subtract", "UnitNormalization", "UpSampling1D", "UpSampling2D"),
    *("UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
)
# Those that apply an activation last: one that tf_keras lacks is made by layers behind.
ACTIVATED = (
    *("Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D", "Conv3DTranspose"),
    *("Dense", "DepthwiseConv1D", "DepthwiseConv2D", "EinsumDense"),
    *("SeparableConv1D", "SeparableConv2D"),
)


@dataclasses.dataclass(frozen=True)
class Part:
    """What stands for the recorded call of a layer that another one calls by itself."""

    name: str


def _kind_of(layer):
    """The class of tf_keras with the name of the class in Keras that a layer is of."""
    keras_class = next(c for c in type(layer).__mro__ if c in counterpart.registry)
    return getattr(keras_2().layers, keras_class.__name__)


def _make(layer, name, **changes):
    kind = _kind_of(layer)
    return kind(name=name, **settings_of(layer, kind, changes))


@register_all(counterpart, *layer_classes(*SAME))
def _(layer, recorded):
    return _make(layer, recorded.name)


@register_all(counterpart, *layer_classes(*ACTIVATED))
def _(layer, recorded):
    if name_in_keras_2(name_of(layer.activation)) is not None:
        return _make(layer, recorded.name)
    behind = in_layers(layer.activation, f"{recorded.name}_activation")
    return Followed(_make(layer, recorded.name, activation="linear"), behind)


@counterpart.register(keras.layers.Activation)
def _(layer, recorded):
    if name_in_keras_2(name_of(layer.activation)) is not None:
        return _make(layer, recorded.name)
    return Followed(None, in_layers(layer.activation, recorded.name))


@counterpart.register(keras.layers.LeakyReLU)
def _(layer, recorded):
    return keras_2().layers.LeakyReLU(layer.negative_slope, name=recorded.name)


@counterpart.register(keras.layers.Normalization)
def _(layer, recorded):
    """Its statistics are constants."""
    statistics = {
        name: np.squeeze(keras.ops.convert_to_numpy(value))
        for name, value in (("mean", layer.mean), ("variance", layer.variance))
    }
    return _make(layer, recorded.name, **statistics)


# --- layers that hold others ----------------------------------------------------------------------


@counterpart.register(keras.layers.Bidirectional)
def _(layer, recorded):
    parts = {"layer": layer.forward_layer, "backward_layer": layer.backward_layer}
    return _make_around(layer, recorded, parts)


@counterpart.register(keras.layers.SpectralNormalization)
def _(layer, recorded):
    return _make_around(layer, recorded, {"layer": layer.layer})


@counterpart.register(keras.layers.RNN)
def _(layer, recorded):
    return _make_around(layer, recorded, {"cell": layer.cell})


def _make_around(layer, recorded, parts):
    settings = settings_of(layer, _kind_of(layer), dict.fromkeys(parts))
    made = {name: _part(part) for name, part in parts.items()}
    return _kind_of(layer)(name=recorded.name, **{**settings, **made})


def _part(layer):
    """A layer inside of another one, which calls it by itself."""
    made = rule_of(counterpart, layer)(layer, Part(layer.name))
    if isinstance(made, Followed):
        raise NotTaken(f"'{layer.name}' inside of it, whose activation tf_keras does not know")
    return made


@counterpart.register(keras.layers.StackedRNNCells)
def _(layer, recorded):
    return keras_2().layers.StackedRNNCells(list(map(_part, layer.cells)), name=recorded.name)


@counterpart.register(keras.layers.Resizing)
def _(layer, recorded):
    if layer.pad_to_aspect_ratio or layer.antialias:
        raise NotTaken("pad_to_aspect_ratio or antialias, which tf_keras does not know")
    kept = {"pad_to_aspect_ratio": None, "antialias": None, "fill_mode": None, "fill_value": None}
    return _make(layer, recorded.name, **kept)


# --- of keras.applications ------------------------------------------------------------------------


@register_all(counterpart, *application_classes(keras.applications.ConvNeXtTiny, "LayerScale"))
def _(layer, recorded):
    """A factor for each channel, as a depthwise convolution of one pixel, which tfmot knows."""
    return keras_2().layers.DepthwiseConv2D(1, use_bias=False, name=recorded.name)


@register_all(counterpart, *application_classes(keras.applications.ConvNeXtTiny, "StochasticDepth"))
def _(layer, recorded):
    whole_examples = (None, 1, 1, 1)
    return keras_2().layers.Dropout(layer.drop_path_rate, whole_examples, name=recorded.name)


@register_all(
    counterpart, *application_classes(keras.applications.InceptionResNetV2, "CustomScaleLayer")
)
def _(layer, recorded):
    """The sum of the first input and the second one, which is scaled."""
    layers = keras_2().layers
    scale = layers.Rescaling(layer.scale, name=f"{recorded.name}_factor")
    add = layers.Add(name=recorded.name)
    return Followed(None, lambda inputs: add([inputs[0], scale(inputs[1])]))
