"""Activations in tf_keras, which has fewer of them, and some that mean something else."""

import keras

from resrep_keras.tfmot.counterparts import NotTaken
from resrep_keras.tfmot.packages import keras_2

# The names that both know for the same function.
SAME = set(
    "linear relu sigmoid tanh softmax softplus softsign elu selu exponential gelu mish".split()
)
RENAMED = {"silu": "swish", "swish": "swish"}


def name_of(activation):
    """The name of an activation in Keras 3.

    Raises:
        NotTaken: It is none of Keras's functions.
    """
    if activation is None:
        return "linear"
    name = activation if isinstance(activation, str) else keras.activations.serialize(activation)
    if not isinstance(name, str):
        raise NotTaken("an activation that is not one of keras.activations")
    return name


def name_in_keras_2(name):
    """The name of the same function in tf_keras; `None` where it has none."""
    return name if name in SAME else RENAMED.get(name)


def _relu6(x, name):
    return keras_2().layers.ReLU(6.0, name=name)(x)


def _leaky_relu(x, name):
    return keras_2().layers.LeakyReLU(0.2, name=name)(x)


def _hard_sigmoid(x, name):
    """That of Keras 3: Keras 2 has another function of this name."""
    layers = keras_2().layers
    x = layers.Rescaling(1.0, offset=3.0, name=f"{name}_plus_3")(x)
    return layers.Rescaling(1 / 6, name=name)(layers.ReLU(6.0, name=f"{name}_relu6")(x))


def _hard_silu(x, name):
    gate = _hard_sigmoid(x, f"{name}_gate")
    return keras_2().layers.Multiply(name=name)([x, gate])


# What layers compute, by the name of the activation in Keras 3.
IN_LAYERS = {
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_swish": _hard_silu,
}


def in_layers(activation, name):
    """A function of a tensor that makes layers of an activation, the last of them so named.

    Raises:
        NotTaken: tf_keras has nothing like it.
    """
    known = name_of(activation)
    same = name_in_keras_2(known)
    if same is not None:
        return lambda x: keras_2().layers.Activation(same, name=name)(x)
    if known not in IN_LAYERS:
        raise NotTaken(f"activation '{known}', which tf_keras does not know")
    return lambda x: IN_LAYERS[known](x, name)
