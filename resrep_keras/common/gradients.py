"""Gradients outside of `fit`, compiled, on TensorFlow and on JAX."""

import keras

from resrep_keras.common.retracing import quiet_about_tracing
from resrep_keras.keras_adapter import call_with_values


def gradients_of(function, variables, others=()):
    """A compiled function of the arguments of `function`, which returns its gradients.

    Args:
        function: Returns a scalar tensor. It is traced once for each shape of its arguments.
        variables: The `keras.Variable`s to differentiate by.
        others: More variables that it reads, so that values which they are given later count.

    Returns:
        A function that returns a list of tensors, zeros for a variable that is not read.

    Raises:
        ValueError: A backend other than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _on_tensorflow(function, variables)
    if backend == "jax":
        return _on_jax(function, variables, others)
    raise ValueError(
        f"Expected TensorFlow or JAX as the backend of Keras, on which gradients are computed; got "
        f"{backend}. Set KERAS_BACKEND."
    )


def _on_tensorflow(function, variables):
    import tensorflow as tf

    @tf.function(reduce_retracing=True, autograph=False)
    def compute(*args):
        with tf.GradientTape() as tape:
            value = function(*args)
        sources = [variable.value for variable in variables]
        zero = tf.UnconnectedGradients.ZERO
        found = tape.gradient(value, sources, unconnected_gradients=zero)
        return [tf.convert_to_tensor(gradient) for gradient in found]  # rows of an embedding

    def gradients(*args):
        with quiet_about_tracing():
            return compute(*args)

    return gradients


def _on_jax(function, variables, others):
    import jax

    @jax.jit
    def compute(values, other_values, *args):
        def value_of(values):
            given = [*zip(variables, values), *zip(others, other_values)]
            return call_with_values(function, given, *args)[0]

        return jax.grad(value_of)(values)

    def gradients(*args):
        values = [variable.value for variable in variables]
        return compute(values, [variable.value for variable in others], *args)

    return gradients
