"""SGD as in ResRep's published code: decay that is part of the gradient, and faster offsets."""

import keras
from keras import ops

from resrep_keras.keras_adapter import place_of_variable

OFFSETS = ("bias", "beta")
FACTORS = ("gamma",)


@keras.saving.register_keras_serializable("resrep_keras_examples")
class CoupledDecaySGD(keras.optimizers.Optimizer):
    """Momentum SGD whose weight decay goes through the momentum, on kernels alone.

    ```
    g = dL/dw + kernel_decay * w     (kernels)      g = dL/dw     (all others)
    v = momentum * v + g
    w = w - learning_rate * v        (offset_rate * learning_rate for biases and betas)
    ```

    The decay is that of L2 regularisation. The `weight_decay` of Keras's optimizers is decoupled:
    it takes its share of a weight beside the update, without momentum, which is ten times less at
    a momentum of 0.9. It is added here in `update_step`, which comes after the loss scale is taken
    out, and after the gradients of all replicas are summed: once, not once for each of them.

    Args:
        learning_rate: A number above 0, or a schedule. Defaults to `0.01`.
        momentum: In [0, 1). Defaults to `0.9`.
        kernel_decay: L2 strength on all variables but biases, betas and gammas. Defaults to `1e-4`.
        offset_rate: Learning rate of biases and betas in times of that of the others. Defaults to
            `2`.

    Note:
        The rate multiplies the velocity from outside, as in PyTorch. Keras's SGD has it inside.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        kernel_decay=1e-4,
        offset_rate=2.0,
        name="coupled_decay_sgd",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.kernel_decay = kernel_decay
        self.offset_rate = offset_rate

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = [
            self.add_variable_from_reference(variable, name="velocity") for variable in variables
        ]
        # In a step on replicas, variables are a backend's and have other names: asked here.
        names = [variable.name for variable in variables]
        plain = OFFSETS + FACTORS
        self.decays = [0.0 if name in plain else self.kernel_decay for name in names]
        self.rates = [self.offset_rate if name in OFFSETS else 1.0 for name in names]

    def update_step(self, gradient, variable, learning_rate):
        place = place_of_variable(self, variable)
        dtype, velocity = variable.dtype, self.velocities[place]
        gradient, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        gradient = gradient + self.decays[place] * variable
        speed = self.momentum * velocity + gradient
        self.assign(velocity, speed)
        self.assign_sub(variable, self.rates[place] * rate * speed)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "kernel_decay": self.kernel_decay,
            "offset_rate": self.offset_rate,
        }
