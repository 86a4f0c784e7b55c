"""The 40 builders of keras.applications by family, and how one is built at small size."""

import keras
import numpy as np

# Smallest pictures that the builders and their strides take.
SIZES = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75, "NASNetLarge": 64}
DEFAULT_SIZE = 32
# The smallest of each family comes first.
FAMILIES = {
    "VGG": ["VGG16", "VGG19"],
    "ResNet": ["ResNet50", "ResNet101", "ResNet152"],
    "ResNetV2": ["ResNet50V2", "ResNet101V2", "ResNet152V2"],
    "MobileNet": ["MobileNet"],
    "MobileNetV2": ["MobileNetV2"],
    "MobileNetV3": ["MobileNetV3Small", "MobileNetV3Large"],
    "EfficientNet": [f"EfficientNetB{n}" for n in range(8)],
    "EfficientNetV2": [f"EfficientNetV2{n}" for n in ("B0", "B1", "B2", "B3", "S", "M", "L")],
    "DenseNet": ["DenseNet121", "DenseNet169", "DenseNet201"],
    "Inception": ["InceptionV3"],
    "InceptionResNet": ["InceptionResNetV2"],
    "Xception": ["Xception"],
    "NASNet": ["NASNetMobile", "NASNetLarge"],
    "ConvNeXt": [f"ConvNeXt{n}" for n in ("Tiny", "Small", "Base", "Large", "XLarge")],
}
ALL = [name for names in FAMILIES.values() for name in names]
SMALLEST = [names[0] for names in FAMILIES.values()]


def build(name, seed=0):
    """The builder's model with random weights, batch statistics, and statistics of inputs."""
    keras.utils.set_random_seed(seed)
    size = SIZES.get(name, DEFAULT_SIZE)
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        kind = weight.path.split("/")[-1]
        if kind.endswith("kernel"):  # outputs as large as inputs, so that no signal dies away
            fan_in = np.prod(weight.shape[:-1]) if "depthwise" not in kind else 9
            weight.assign(generator.normal(0, np.sqrt(2 / fan_in), weight.shape))
        elif kind == "gamma" or kind.startswith("variable"):  # ConvNeXt's scales have no name
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif kind in ("beta", "bias"):
            weight.assign(generator.normal(0, 0.1, weight.shape))
    pictures = generator.normal(size=(8, size, size, 3))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.adapt(3 * pictures + 1)  # as the builders' own weights have it
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # one pass in training sets the statistics
    model(pictures.astype(keras.config.floatx()), training=True)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    return model
