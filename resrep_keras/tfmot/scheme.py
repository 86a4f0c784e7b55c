"""How layers are quantized: as tfmot does by default, with what is wrong there set right."""

import functools
import sys

from resrep_keras.tfmot.packages import keras_2, model_optimization

# Activations inside of a layer that tfmot knows how to quantize, and what it sets there itself.
ACTIVATIONS = {"linear", "relu", "softmax", "sigmoid", "tanh", "swish", "gelu", "NoOpActivation"}
# Sums and products of tensors, which TFLite has kernels of integers for: quantized as `Add`.
LIKE_ADD = ("Multiply", "Subtract")
TRANSFORMS = (
    *("InputLayerQuantize", "SeparableConvQuantize", "Conv2DBatchNormReLUQuantize"),
    *("Conv2DBatchNormActivationQuantize", "Conv2DBatchNormQuantize", "DenseBatchNormQuantize"),
    *("DenseBatchNormReLUQuantize", "DenseBatchNormActivationQuantize", "LayerReLUQuantize"),
    "LayerReluActivationQuantize",
)


def is_of(layer, *kinds):
    """Whether a layer of tf_keras is of a class with one of these names."""
    return type(layer).__name__ in kinds


def activation_of(layer):
    """The name of the activation of a layer of tf_keras; `"linear"` of one without."""
    activation = layer.get_config().get("activation", "linear")
    return activation["class_name"] if isinstance(activation, dict) else activation


@functools.cache
def scheme():
    """A `QuantizeScheme` of tfmot.

    Its default one also has transforms for `Concatenate`, which may change the order in which that
    reads its inputs.
    """
    tfmot = model_optimization().quantization.keras
    default = tfmot.default_8bit
    # Its public list lacks some of those in the file that the others come from.
    transforms = sys.modules[default.default_8bit_transforms.InputLayerQuantize.__module__]

    class Layout(tfmot.QuantizeLayoutTransform):
        def apply(self, model, layer_quantize_map):
            return tfmot.graph_transformations.model_transformer.ModelTransformer(
                model,
                [getattr(transforms, name)() for name in TRANSFORMS],
                set(layer_quantize_map),
                layer_quantize_map,
            ).transform()

    class Registry(default.Default8BitQuantizeRegistry):
        def supports(self, layer):
            known = is_of(layer, *LIKE_ADD) or super().supports(layer)
            return known and activation_of(layer) in ACTIVATIONS

        def get_quantize_config(self, layer):
            like = keras_2().layers.Add() if is_of(layer, *LIKE_ADD) else layer
            return super().get_quantize_config(like)

    class Scheme(default.Default8BitQuantizeScheme):
        def get_layout_transformer(self):
            return Layout()

        def get_quantize_registry(self):
            return Registry()

    return Scheme()
