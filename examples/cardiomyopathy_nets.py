"""A classifier of patients: a backbone for each tile, a sequence of tiles, and what pools it."""

import keras
from keras import layers, ops

import resrep_keras


def conv_bn(x, filters, kernel=1, strides=1, padding="same"):
    """As in Inception-V3: neither a bias nor a scale."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(scale=False)(x))


def mixed(x, width, long=3):
    """Four branches side by side: 1x1, a long kernel in two parts, two 3x3, and pooling."""
    one = conv_bn(x, width)
    two = conv_bn(conv_bn(conv_bn(x, width), width, (1, long)), width, (long, 1))
    three = conv_bn(conv_bn(conv_bn(x, width // 2), width, 3), width, 3)
    pooled = conv_bn(layers.AveragePooling2D(3, 1, padding="same")(x), width // 2)
    return layers.Concatenate()([one, two, three, pooled])


def slim_inception(size, width=12, blocks=3):
    """A stem and mixed blocks in the manner of Inception-V3 (Szegedy et al., 2016)."""
    inputs = keras.Input((size, size, 3))
    x = conv_bn(inputs, width, 3, strides=2)
    x = conv_bn(x, 3 * width // 2, 3)
    for block in range(blocks):
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        x = mixed(x, (2 + block) * width // 2, long=5 if block else 3)
    return keras.Model(inputs, x, name="slim_inception")


def inception_v3(size, weights=None):
    """The whole Inception-V3 without its head; `weights="imagenet"` are downloaded."""
    return keras.applications.InceptionV3(
        include_top=False, weights=weights, input_shape=(size, size, 3), name="inception_v3"
    )


POOLINGS = ("attention", "last", "average")


def classifier(backbone, length, pooling="attention", units=32, heads=2, penalty=0.02, dropout=0.3):
    """A model of `{"tiles", "present"}` whose output is the logit of the positive class.

    Args:
        backbone: Makes a `(height, width, channels)` map of a tile of -1 to 1.
        length: Tiles of a patient.
        pooling: `"attention"`: a bidirectional LSTM, and attention over its states;
            `"last"`: a bidirectional LSTM, and its last states; `"average"`: the mean of all tiles.
        units: Of the LSTM, in each direction.
        heads: Of the attention.
        penalty: On heads that look at the same tiles.
        dropout: Share of what is dropped around the LSTM.
    """
    size = backbone.input_shape[1]
    tiles = keras.Input((length, size, size, 3), name="tiles")
    present = keras.Input((length,), dtype="bool", name="present")
    # All tiles of all patients side by side: what a layer does is done once.
    x = ops.reshape(tiles, (-1, size, size, 3))
    x = backbone(layers.Rescaling(1 / 127.5, -1.0)(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = ops.reshape(x, (-1, length, x.shape[-1]))
    x = layers.Dropout(dropout)(x)
    if pooling == "average":
        x = layers.GlobalAveragePooling1D(name="pooling")(x, mask=present)
    else:
        # Written out step by step, it needs no operations of TensorFlow's in a .tflite file.
        lstm = layers.LSTM(units, return_sequences=pooling == "attention", unroll=True)
        x = layers.Bidirectional(lstm, name="sequence")(x, mask=present)
    if pooling == "attention":
        attend = resrep_keras.SelfAttentionPooling(
            64, heads, return_attention=True, penalty=penalty, name="pooling"
        )
        x, _ = attend(x, mask=present)
        x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu", name="hidden")(layers.Dropout(dropout)(x))
    x = layers.Dense(1, name="decision")(x)
    return keras.Model({"tiles": tiles, "present": present}, x, name=f"classifier_{pooling}")


def attention_of(model):
    """A model of the same inputs that returns the mean attention of all heads, `(batch, tiles)`."""
    _, attention = model.get_layer("pooling").output
    return keras.Model(model.input, ops.mean(attention, axis=1))


def freeze(model, above=None):
    """Freeze the backbone of a classifier, or all of it below the layer `above`.

    Batch normalisations of the backbone stay in inference mode, with the statistics that they
    were trained with.
    """
    backbone = _backbone(model)
    names = [layer.name for layer in backbone.layers]
    if above is not None and above not in names:
        raise ValueError(f"Expected a layer of '{backbone.name}'; got {above!r}.")
    first = len(names) if above is None else names.index(above)
    for place, layer in enumerate(backbone.layers):
        layer.trainable = place >= first and not isinstance(layer, layers.BatchNormalization)


def unfreeze(model):
    """Train all layers, and let batch normalisations take statistics of the batches."""
    for layer in (*model.layers, *_backbone(model).layers):
        layer.trainable = True


def _backbone(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))
