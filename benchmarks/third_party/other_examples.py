"""Models as the code examples of keras.io describe them: text, sequences, sets, tables."""

import keras
from keras import layers, ops
from third_party.example_layers import (
    GatedResidualNetwork,
    MILAttention,
    Sampling,
    TokenAndPositionEmbedding,
    TransformerBlock,
)


def text_classification():
    """Text classification from scratch: an embedding and convolutions with strides."""
    inputs = keras.Input((24,), dtype="int64")
    x = layers.Dropout(0.5)(layers.Embedding(50, 32)(inputs))
    for _ in range(2):
        x = layers.Conv1D(32, 3, padding="valid", activation="relu", strides=2)(x)
    x = layers.Dense(32, activation="relu")(layers.GlobalMaxPooling1D()(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(x)))


def text_transformer():
    """Text classification with a transformer."""
    inputs = keras.Input((16,))
    x = TokenAndPositionEmbedding(16, 50, 32)(inputs)
    x = layers.GlobalAveragePooling1D()(TransformerBlock(32, 2, 48)(x))
    x = layers.Dense(20, activation="relu")(layers.Dropout(0.1)(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Dropout(0.1)(x)))


def bidirectional_lstm():
    """Bidirectional LSTM on IMDB."""
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(50, 32)(inputs)
    x = layers.Bidirectional(layers.LSTM(16, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(16))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def timeseries():
    """Timeseries classification from scratch."""
    x = inputs = keras.Input((48, 1))
    for _ in range(3):
        x = layers.Conv1D(32, 3, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def timeseries_transformer():
    """Timeseries classification with a transformer: convolutions as its dense layers."""
    x = inputs = keras.Input((24, 1))
    for _ in range(2):
        y = layers.Dropout(0.1)(layers.MultiHeadAttention(2, 8, dropout=0.1)(x, x))
        x = layers.LayerNormalization(epsilon=1e-6)(y) + x
        y = layers.Dropout(0.1)(layers.Conv1D(8, 1, activation="relu")(x))
        y = layers.Conv1D(x.shape[-1], 1)(y)
        x = layers.LayerNormalization(epsilon=1e-6)(y) + x
    x = layers.GlobalAveragePooling1D(data_format="channels_last")(x)
    x = layers.Dropout(0.4)(layers.Dense(32, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def speaker():
    """Speaker recognition: residual blocks of 1D convolutions over a spectrum."""
    x = inputs = keras.Input((64, 1))
    for width, depth in ((16, 2), (24, 2), (32, 3)):
        shortcut = layers.Conv1D(width, 1, padding="same")(x)
        for _ in range(depth - 1):
            x = layers.Activation("relu")(layers.Conv1D(width, 3, padding="same")(x))
        x = layers.Add()([layers.Conv1D(width, 3, padding="same")(x), shortcut])
        x = layers.MaxPool1D(pool_size=2, strides=2)(layers.Activation("relu")(x))
    x = layers.Flatten()(layers.AveragePooling1D(pool_size=3, strides=3)(x))
    for width in (48, 24):
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def next_frames():
    """Next-frame video prediction with convolutional LSTMs."""
    x = inputs = keras.Input((4, 12, 12, 1))
    for size in (5, 3):
        x = layers.ConvLSTM2D(12, size, padding="same", return_sequences=True, activation="relu")(x)
        x = layers.BatchNormalization()(x)
    x = layers.Conv3D(1, 3, activation="sigmoid", padding="same")(x)
    return keras.Model(inputs, x)


def point_net():
    """Point cloud classification with PointNet: transforms that the points are multiplied with."""

    def block(x, width, kind):
        x = kind(width)(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.0)(x))

    def conv(width):
        return layers.Conv1D(width, 1, padding="valid")

    def transform(inputs, size):
        x = block(block(inputs, 16, conv), 32, conv)
        x = block(layers.GlobalMaxPooling1D()(x), 16, layers.Dense)
        x = layers.Dense(size * size, kernel_initializer="zeros")(x)
        return layers.Dot(axes=(2, 1))([inputs, layers.Reshape((size, size))(x)])

    inputs = keras.Input((32, 3))
    x = block(block(transform(inputs, 3), 16, conv), 16, conv)
    x = block(block(transform(x, 16), 16, conv), 32, conv)
    x = layers.Dropout(0.3)(block(layers.GlobalMaxPooling1D()(x), 24, layers.Dense))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def encoder():
    """Variational autoencoder: a mean, a variance, and a draw."""
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(16, 3, activation="relu", strides=2, padding="same")(inputs)
    x = layers.Conv2D(32, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    mean, log_variance = layers.Dense(2)(x), layers.Dense(2)(x)
    return keras.Model(inputs, [mean, log_variance, Sampling()([mean, log_variance])])


def decoder():
    """Variational autoencoder: back to a picture."""
    inputs = keras.Input((2,))
    x = layers.Reshape((7, 7, 16))(layers.Dense(7 * 7 * 16, activation="relu")(inputs))
    for width in (32, 16):
        x = layers.Conv2DTranspose(width, 3, activation="relu", strides=2, padding="same")(x)
    return keras.Model(
        inputs, layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    )


def gated_residuals():
    """Classification with gated residual networks, of features that are chosen by a softmax."""
    inputs = [keras.Input((1,), name=f"feature_{n}") for n in range(4)]
    encoded = [layers.Dense(16)(x) for x in inputs]
    whole = GatedResidualNetwork(16, 0.1)(layers.concatenate(encoded))
    weights = ops.expand_dims(layers.Dense(4, activation="softmax")(whole), axis=-1)
    chosen = ops.stack([GatedResidualNetwork(16, 0.1)(x) for x in encoded], axis=1)
    x = ops.squeeze(ops.matmul(ops.transpose(weights, (0, 2, 1)), chosen), axis=1)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def multiple_instances():
    """Classification of bags by attention over their instances."""
    inputs = keras.Input((6, 28 * 28))
    x = layers.Dense(64, activation="relu")(inputs)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(MILAttention(16)(x)))


def collaborative_filtering():
    """Collaborative filtering: embeddings of users and films, and their product."""
    users, films = (keras.Input((), dtype="int32", name=name) for name in ("users", "films"))
    pairs = [(layers.Embedding(20, 16)(x), layers.Embedding(20, 1)(x)) for x in (users, films)]
    product = ops.sum(pairs[0][0] * pairs[1][0], axis=-1, keepdims=True)
    return keras.Model([users, films], ops.sigmoid(product + pairs[0][1] + pairs[1][1]))


def radiance_field():
    """3D volumetric rendering with NeRF: dense layers with a residual of the input."""
    x = inputs = keras.Input((48, 24))
    for number in range(5):
        x = layers.Dense(32, activation="relu")(x)
        if number == 2:
            x = layers.concatenate([x, inputs], axis=-1)
    return keras.Model(inputs, layers.Dense(4)(x))


def wide_and_deep():
    """Wide, deep and cross networks: what crosses multiplies the input."""
    inputs = keras.Input((16,))
    cross = inputs
    for _ in range(2):
        cross = inputs * layers.Dense(16)(cross) + cross
    cross = layers.BatchNormalization()(cross)
    deep = inputs
    for units in (32, 24):
        deep = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(deep)))
        deep = layers.Dropout(0.1)(deep)
    return keras.Model(
        inputs, layers.Dense(7, activation="softmax")(layers.concatenate([cross, deep]))
    )


BUILDERS = {
    build.__name__.replace("_", " "): build
    for build in (
        *(text_classification, text_transformer, bidirectional_lstm, timeseries),
        *(timeseries_transformer, speaker, next_frames, point_net, encoder, decoder),
        *(gated_residuals, multiple_instances, collaborative_filtering, radiance_field),
        *(wide_and_deep,),
    )
}
