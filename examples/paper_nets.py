"""The nets of ResRep's experiments, equal to PyTorch's: padding, batch normalisation, names."""

import keras
import numpy as np
from keras import layers


def conv(x, filters, kernel_size, strides, name):
    """A convolution without bias that is padded evenly, as PyTorch does.

    With strides, `padding="same"` would put more on the right and below.
    """
    if kernel_size == 1 or strides == 1:
        padding = "same"
    else:
        x, padding = layers.ZeroPadding2D(kernel_size // 2)(x), "valid"
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def normalized(x, name):
    """Batch normalisation with PyTorch's momentum, 0.1 of what is new, and epsilon."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def block(x, widths, kernel_sizes, strides, strided, projected, name):
    """A residual block: convolutions, the `strided`-th with the strides, and what is added."""
    y = x
    for number, (width, kernel_size) in enumerate(zip(widths, kernel_sizes), start=1):
        y = conv(y, width, kernel_size, strides if number == strided else 1, f"{name}_conv{number}")
        y = normalized(y, f"{name}_bn{number}")
        y = layers.ReLU()(y) if number < len(widths) else y
    if projected:
        x = conv(x, widths[-1], 1, strides, f"{name}_downsample_0")
        x = normalized(x, f"{name}_downsample_1")
    return layers.ReLU()(layers.Add()([x, y]))


def classified(inputs, x, num_classes, name):
    x = layers.GlobalAveragePooling2D()(x)
    # Logits of 16 bits would be too coarse for the loss.
    return keras.Model(inputs, layers.Dense(num_classes, dtype="float32", name="fc")(x), name=name)


def resnet_cifar(input_shape, num_classes, depth=56, width=16):
    """ResNet of depth ``6n + 2`` with projections; 125,747,840 MACs for ResNet-56 on CIFAR-10."""
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(normalized(conv(inputs, width, 3, 1, "conv1"), "bn1"))
    for stage in range(3):
        for number in range((depth - 2) // 6):
            first = stage > 0 and number == 0
            x = block(
                *(x, [width * 2**stage] * 2, (3, 3)),
                *(1 + first, 1, first, f"layer{stage + 1}_{number}"),
            )
    return classified(inputs, x, num_classes, f"resnet{depth}")


def resnet50(input_shape, num_classes, blocks=(3, 4, 6, 3), width=64):
    """Torchvision's ResNet-50: strides in the 3x3 convolutions; 4,089,184,256 MACs at 224x224."""
    inputs = keras.Input(input_shape)
    x = layers.ReLU()(normalized(conv(inputs, width, 7, 2, "conv1"), "bn1"))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # behind a ReLU, 0 is the least
    for stage, number in enumerate(blocks):
        inner = width * 2**stage
        for place in range(number):
            strides = 2 if stage > 0 and place == 0 else 1
            x = block(
                *(x, (inner, inner, 4 * inner), (1, 3, 1)),
                *(strides, 2, place == 0, f"layer{stage + 1}_{place}"),
            )
    return classified(inputs, x, num_classes, "resnet50")


def keras_resnet50(weights="imagenet"):
    """Keras's ResNet-50 with its weights: strides in the 1x1 convolutions, 3,857,973,248 MACs."""
    return keras.applications.ResNet50(weights=weights, classifier_activation=None)


def load_torchvision(model, path):
    """Set the weights of `resnet50` to those of torchvision, from an `.npz` of its state dict.

    Args:
        model: A model of this file, whose layers have torchvision's names.
        path: A file of arrays by torchvision's names, such as `layer1.0.conv1.weight`.

    Raises:
        SystemExit: An array is missing, left over or of another shape.
    """
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    left = {name for name in arrays if not name.endswith("num_batches_tracked")}
    for layer in model.layers:
        if not layer.weights:
            continue
        own = []
        for variable in layer.weights:
            name = f"{layer.name.replace('_', '.')}.{TORCH_NAMES[variable.name]}"
            value = _in_keras_order(arrays.get(name, np.empty(0)))
            if value.shape != variable.shape:
                raise SystemExit(
                    f"Expected '{path}' to hold '{name}' for {variable.shape}; got {value.shape}."
                )
            left.discard(name)
            own.append(value)
        layer.set_weights(own)
    if left:
        raise SystemExit(f"'{path}' holds what {model.name} has no place for: {sorted(left)[:5]}.")


TORCH_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _in_keras_order(array):
    """Outputs last; kernels `(height, width, in, out)`."""
    return array.transpose((2, 3, 1, 0) if array.ndim == 4 else range(array.ndim)[::-1])
