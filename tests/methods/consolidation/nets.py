"""Small models of several tasks, and their data."""

import keras
import numpy as np
from keras import layers, ops

import resrep_keras

TASKS = 3


def dense_model(tasks=TASKS, names="task_{}", **kwargs):
    """A trunk of two layers, and a head of three classes for each task."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = layers.Dense(12, activation="relu", name="first", **kwargs)(inputs)
    x = layers.Dense(8, activation="relu", name="second", **kwargs)(x)
    heads = [layers.Dense(3, name=f"head_{task}", **kwargs)(x) for task in range(tasks)]
    return keras.Model(inputs, {names.format(task): head for task, head in enumerate(heads)})


def one_head(**kwargs):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = layers.Dense(12, activation="relu", name="first", **kwargs)(inputs)
    return keras.Model(inputs, layers.Dense(3, name="head", **kwargs)(x))


def data(task=0, rows=64):
    """Inputs, and labels that a linear function of the task gives them."""
    generator = np.random.default_rng(task)
    x = generator.normal(size=(rows, 5)).astype("float32")
    return x, (x @ generator.normal(size=(5, 3))).argmax(-1)


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def wrapped(method, dense=None, optimizer=None):
    model = resrep_keras.wrap(dense_model() if dense is None else dense, method)
    return compiled(model, optimizer or keras.optimizers.SGD(0.05), metrics=["accuracy"])


def compiled(model, optimizer, **kwargs):
    """Without XLA on TensorFlow, where compiling would take longer than these runs."""
    jit = keras.backend.backend() == "jax"
    model.compile(optimizer, loss(), jit_compile=jit, **kwargs)
    return model


def fit(model, task=0, **kwargs):
    """Two epochs of four steps, in the order of the data."""
    x, y = data(task)
    arguments = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, y, **arguments)


def learn(model, tasks=TASKS, **kwargs):
    for task in range(tasks):
        fit(model, task)
        resrep_keras.end_task(model, *data(task), **kwargs)


def weights_of(model):
    """``{path: array}`` of all weights."""
    return {weight.path: np.array(ops.convert_to_numpy(weight)) for weight in model.weights}


def importance_of(model):
    """``{path: array}`` of the trunk."""
    held = model.optimizer.held
    return {each.variable.path: np.array(ops.convert_to_numpy(each.importance)) for each in held}
