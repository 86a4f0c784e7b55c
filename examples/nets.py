"""Small convolutional nets for the examples and benchmarks."""

import keras
from keras import layers


def conv_bn(x, filters, kernel_size=3, strides=1, activation="relu"):
    x = layers.Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def residual_block(x, filters, strides=1):
    y = conv_bn(x, filters, strides=strides)
    y = conv_bn(y, filters, activation=None)
    if strides > 1 or x.shape[-1] != filters:
        x = conv_bn(x, filters, 1, strides, activation=None)
    return layers.ReLU()(layers.Add()([x, y]))


def small_resnet(input_shape, num_classes, width=48, name="small_resnet"):
    """Three residual blocks; 5,535,520 MACs on 28x28x1 images and ten classes."""
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, width // 3, 5, 2)
    for strides in (2, 1, 1):
        x = residual_block(x, width, strides)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name=name)


def resnet(depth, input_shape, num_classes):
    """CIFAR ResNet of depth ``6n + 2`` (He et al., 2016), projection shortcuts."""
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, 16)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            x = residual_block(x, filters, 2 if stage and not block else 1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name=f"resnet{depth}")


def small_vgg(input_shape, num_classes):
    """Convolutions in a row and a hidden dense layer; 5,598,080 MACs on 28x28x1, ten classes."""
    inputs = x = keras.Input(input_shape)
    for filters, pool in ((16, 1), (32, 0), (32, 1), (64, 0), (64, 1)):
        x = conv_bn(x, filters)
        x = layers.MaxPooling2D(padding="same")(x) if pool else x
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="small_vgg")


def small_mobilenet(input_shape, num_classes):
    """Five inverted bottlenecks of MobileNetV2, two of which have a residual connection."""
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, 16, strides=2, activation="relu6")
    for filters, strides in ((24, 1), (24, 1), (32, 2), (32, 1), (48, 1)):
        x = inverted_bottleneck(x, 6, filters, strides)
    x = conv_bn(x, 128, 1, activation="relu6")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="small_mobilenet")


def small_densenet(input_shape, num_classes, growth=12):
    """Two blocks of four layers that read all before them (Huang et al., 2017)."""
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(2 * growth, 3, strides=2, padding="same", use_bias=False)(inputs)
    for block in range(2):
        if block:
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False)(x)
            x = layers.AveragePooling2D(2)(x)
        for _ in range(4):
            y = layers.ReLU()(layers.BatchNormalization()(x))
            y = layers.Conv2D(growth, 3, padding="same", use_bias=False)(y)
            x = layers.Concatenate()([x, y])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="small_densenet")


def vgg11(input_shape, num_classes):
    inputs = x = keras.Input(input_shape)
    for filters, pool in ((64, 1), (128, 1), (256, 0), (256, 1), (512, 0), (512, 1)):
        x = conv_bn(x, filters)
        x = layers.MaxPooling2D(padding="same")(x) if pool else x
    x = conv_bn(conv_bn(x, 512), 512)
    x = layers.Flatten()(layers.MaxPooling2D(padding="same")(x))
    x = layers.Dense(256, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="vgg11")


def inverted_bottleneck(x, expansion, filters, strides):
    y = conv_bn(x, expansion * x.shape[-1], 1, activation="relu6") if expansion > 1 else x
    y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(y)
    y = layers.Activation("relu6")(layers.BatchNormalization()(y))
    y = conv_bn(y, filters, 1, activation=None)
    return layers.Add()([x, y]) if strides == 1 and x.shape[-1] == filters else y


def mobilenet_v2(input_shape, num_classes, strides=1):
    """MobileNetV2 (Sandler et al., 2018) with small-image strides, width 0.5.

    In the paper the first convolution has `strides=2`.
    """
    inputs = keras.Input(input_shape)
    x = conv_bn(inputs, 16, strides=strides, activation="relu6")
    plan = ((1, 8, 1, 1), (6, 16, 2, 1), (6, 16, 2, 2), (6, 32, 3, 2), (6, 48, 2, 1), (6, 80, 2, 2))
    for expansion, filters, repeats, first_strides in plan:
        for block in range(repeats):
            x = inverted_bottleneck(x, expansion, filters, 1 if block else first_strides)
    x = conv_bn(x, 320, 1, activation="relu6")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="mobilenet_v2")


def resnet50(input_shape=(224, 224, 3), num_classes=1000):
    """ResNet-50 as in torchvision: the stride of a bottleneck is in its 3x3 convolution."""
    inputs = keras.Input(input_shape)
    x = layers.ZeroPadding2D(3)(inputs)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for block in range(blocks):
            strides = 2 if block == 0 and stage > 1 else 1
            y = _named_conv(x, width, 1, 1, f"stage{stage}_block{block}_conv1")
            y = _named_conv(y, width, 3, strides, f"stage{stage}_block{block}_conv2")
            y = conv_bn(y, 4 * width, 1, activation=None)
            if block == 0:
                x = conv_bn(x, 4 * width, 1, strides, activation=None)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes)(x), name="resnet50")


def _named_conv(x, filters, kernel_size, strides, name):
    x = layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", use_bias=False, name=name
    )(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


NETS = {
    "small_resnet": small_resnet,
    "resnet20": lambda *args: resnet(20, *args),
    "resnet56": lambda *args: resnet(56, *args),
    "vgg11": vgg11,
    "mobilenet_v2": mobilenet_v2,
}
