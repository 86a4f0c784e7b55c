"""Single updates on any backend, and a NumPy oracle of those of a compactor."""

import keras
import numpy as np
from keras import ops

from resrep_keras import Compactor, PenaltyOptimizer

RATE, STRENGTH, MOMENTUM = 0.1, 0.03, 0.9


class Oracle:
    """g = m * dL/dK + strength * K / ||K_j||; v = momentum * v + g; K = K - rate * v."""

    def __init__(self, kernel, mask, strength=STRENGTH, momentum=MOMENTUM):
        self.kernel = np.array(kernel, np.float64)
        self.mask = np.array(mask, np.float64)
        self.velocity = np.zeros_like(self.kernel)
        self.strength, self.momentum = strength, momentum

    def step(self, objective_gradient, rate=RATE):
        flat = self.kernel.reshape(-1, self.kernel.shape[-1])
        norms = np.sqrt((flat**2).sum(axis=0))
        pull = np.divide(self.kernel, norms, out=np.zeros_like(self.kernel), where=norms > 0)
        gradient = self.mask * objective_gradient + self.strength * pull
        self.velocity = self.momentum * self.velocity + gradient
        self.kernel = self.kernel - rate * self.velocity


def make(inner, mask=(1, 0, 1, 1), kernel=None, diagonal=False, rank=4):
    """A compactor between a dense layer and a quadratic loss, and its optimizer."""
    inputs = keras.Input((2, 2, 3) if rank == 4 else (3,))
    hidden = keras.layers.Dense(4, name="hidden")(inputs)
    compactor = Compactor(diagonal=diagonal, name="compactor")
    model = keras.Model(inputs, compactor(hidden))
    generator = np.random.default_rng(0)
    if kernel is None:
        kernel = generator.normal(size=compactor.kernel.shape)
    compactor.kernel.assign(kernel)
    compactor.keep_mask.assign(np.array(mask, bool))
    optimizer = PenaltyOptimizer(inner, penalty_strength=STRENGTH, momentum=MOMENTUM)
    optimizer.build(model.trainable_variables)
    x = generator.normal(size=(5, *model.input_shape[1:])).astype("float32")
    target = generator.normal(size=(5, *model.output_shape[1:])).astype("float32")
    return model, compactor, optimizer, x, target


def numpy_gradient(model, compactor, x, target):
    """dL/dK of L = sum((hidden(x) K - target)^2) / 2, unmasked."""
    hidden = ops.convert_to_numpy(model.get_layer("hidden")(x)).astype(np.float64)
    kernel = ops.convert_to_numpy(compactor.kernel).astype(np.float64)
    h = hidden.reshape(-1, 4)
    if compactor.diagonal:
        error = h * kernel - target.reshape(-1, 4)
        return (h * error).sum(axis=0)
    error = h @ kernel.reshape(4, 4) - target.reshape(-1, 4)
    return (h.T @ error).reshape(kernel.shape)


def train_step(model, optimizer, x, target):
    """One step of autodiff on any backend."""
    variables = model.trainable_variables
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as recording:
            loss = ops.sum(ops.square(model(x) - target)) / 2
        optimizer.apply(recording.gradient(loss, variables), variables)
        return
    if keras.backend.backend() == "torch":
        import torch

        model.zero_grad()
        (ops.sum(ops.square(ops.subtract(model(x), target))) / 2).backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)
        return
    import jax

    def loss_of(values, others):
        outputs, _ = model.stateless_call(values, others, x)
        return ops.sum(ops.square(outputs - target)) / 2

    values = [v.value for v in variables]
    gradients = jax.grad(loss_of)(values, [v.value for v in model.non_trainable_variables])
    apply(optimizer, gradients, variables)


INNER = {
    "sgd": lambda: keras.optimizers.SGD(RATE),
    "momentum": lambda: keras.optimizers.SGD(RATE, momentum=0.5, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(RATE),
    "adamw": lambda: keras.optimizers.AdamW(RATE, weight_decay=0.1),
    "weight_decay": lambda: keras.optimizers.SGD(RATE, weight_decay=0.5),
    "clipnorm": lambda: keras.optimizers.SGD(RATE, clipnorm=1e-3),
    "global_clipnorm": lambda: keras.optimizers.SGD(RATE, global_clipnorm=1e-3),
    "clipvalue": lambda: keras.optimizers.Adam(RATE, clipvalue=1e-4),
}


COMPILED = {}


def apply(optimizer, gradients, variables, compiled=False):
    """One update on any backend, the way its `fit` makes it.

    With `compiled`, a backend that has no eager form compiles it once for all updates.
    """
    if keras.backend.backend() != "jax":
        optimizer.apply(gradients, variables)
        return
    update = optimizer.stateless_apply
    if compiled:
        import jax

        if id(optimizer) not in COMPILED:  # what is compiled keeps its optimizer, and so its id
            COMPILED[id(optimizer)] = jax.jit(update)
        update = COMPILED[id(optimizer)]
    states = [variable.value for variable in optimizer.variables]
    values = [variable.value for variable in variables]
    gradients = [g if g is None else ops.convert_to_tensor(g) for g in gradients]
    values, states = update(states, gradients, values)
    for variable, value in [*zip(variables, values), *zip(optimizer.variables, states)]:
        variable.assign(value)


def gradients_like(variables, seed):
    """Normal gradients of a seed."""
    generator = np.random.default_rng(seed)
    drawn = [generator.normal(size=variable.shape).astype("float32") for variable in variables]
    return [ops.convert_to_tensor(gradient) for gradient in drawn]


# What a penalty or a measured gradient must not depend on; each makes one update of all its steps.
SCALES = {
    "plain": (keras.optimizers.SGD, 1),
    "accumulated": (lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2), 2),
    "scaled": (lambda rate: keras.optimizers.SGD(rate, loss_scale_factor=512.0), 1),
    "scaled from outside": (
        lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate)),
        1,
    ),
}
