"""Trains on one device and on two, and writes the variables of all runs to a file.

    python -m tests.conditions.two_devices <scenario> <file>

Run by test_devices.py in a process of its own: a backend counts its devices once, when it starts.
"""

import contextlib
import os
import pathlib
import sys

import keras
import numpy as np

import resrep_keras
from resrep_keras.methods.channels.group_lasso import GroupLasso
from resrep_keras.methods.channels.network_slimming import NetworkSlimming
from resrep_keras.methods.channels.taylor import TaylorPruning

EPOCHS = 6


def make_dense(normalization=None):
    """Two convolutions, with a batch normalisation behind each where one is asked for."""
    inputs = x = keras.Input((8, 8, 1))
    for width in (8, 12):
        x = keras.layers.Conv2D(width, 3, padding="same", use_bias=normalization is None)(x)
        x = keras.layers.BatchNormalization(**normalization)(x) if normalization else x
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def make_model(normalization=None, penalty_strength=0.01, method=None):
    """Adam trains the plain net, SGD with all its settings the normalized one."""
    sgd = {"momentum": 0.9, "weight_decay": 1e-3, "global_clipnorm": 1.0}
    optimizer = keras.optimizers.SGD(0.05, **sgd) if normalization else keras.optimizers.Adam(0.01)
    keras.utils.set_random_seed(1)
    method = method or resrep_keras.ResRep(0.4, penalty_strength=penalty_strength, compactor_rate=1)
    model = resrep_keras.wrap(make_dense(normalization), method)
    model.compile(optimizer, make_loss())
    return model


def make_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, **settings):
    """Steps of 16 examples in all, whatever the number of devices."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 8, 8, 1)).astype("float32")
    y = generator.integers(0, 3, 64)
    settings = {"epochs": EPOCHS, "shuffle": False, "verbose": 0, **settings}
    model.fit(x, y, batch_size=16, **settings)
    return model


def state(model):
    """Every variable of the model and its optimizer, by number and name."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{i} {v.path}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}


def removed(model):
    """Share of the MACs that a strict finalize removes."""
    return np.array(1 - resrep_keras.finalize(model, strict=True).certificate.macs_left)


def two_cpus():
    """A strategy on two logical CPUs; a second one in a process would mix up its messages."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def mirrored():
    """MirroredStrategy against one device."""
    strategy = two_cpus()
    found = {}

    def run(name, scope, **settings):
        with scope:
            model = make_model(**settings)
        found[name] = state(fit(model))
        found[name]["removed"] = removed(model)
        return model

    normalized = {"normalization": {"synchronized": True}}
    run("one", contextlib.nullcontext())
    run("one, normalized", contextlib.nullcontext(), **normalized)
    run("one, penalty doubled", contextlib.nullcontext(), penalty_strength=0.02)
    run("two, normalized", strategy.scope(), **normalized)
    two = run("two", strategy.scope())
    variables = [*two.variables, *two.optimizer.variables]
    for replica in range(2):
        found[f"replica {replica}"] = {
            f"{i} {v.path}": strategy.experimental_local_results(v.value)[replica].numpy()
            for i, v in enumerate(variables)
        }
    return found


def baselines():
    """What is measured or pressed in training on two devices is that of one."""
    strategy = two_cpus()
    found = {}
    synchronized = {"synchronized": True}
    methods = {
        "NetworkSlimming": (NetworkSlimming(0.4, at=0.5, strength=0.05), synchronized),
        "GroupLasso": (GroupLasso(0.4, at=0.5, strength=0.002), synchronized),
        "growth": (GroupLasso(0.4, at=0.5, strength=0.002, growth=4), synchronized),
        "TaylorPruning": (TaylorPruning(0.4, at=0.5), None),  # Keras clips on each replica
        "taught": (resrep_keras.ResRep(0.4), synchronized),
        "taught by Keras": (resrep_keras.ResRep(0.4), synchronized),
    }
    classes = keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence())
    for kind, (method, normalization) in methods.items():
        for name, scope in (("one", contextlib.nullcontext()), ("two", strategy.scope())):
            with scope:
                model = make_model(normalization, method=method)
            if kind.startswith("taught"):  # by a model of no strategy
                loss = classes if kind.endswith("Keras") else None
                teacher = make_dense(normalization)
                model.set_teacher(resrep_keras.Distillation(teacher, weight=0.2, loss=loss))
            run = found[f"{kind} {name}"] = state(fit(model))
            run["removed"] = removed(model)
    return found


def tasks():
    """One task after the other, on two devices and on one."""
    strategy = two_cpus()
    found = {}
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 5)).astype("float32")
    labels = generator.integers(0, 3, (2, 64))
    for method in (
        resrep_keras.SynapticIntelligence(2.0),
        resrep_keras.ANPyC(0.01, initial_percent=10, retrain_epochs=1),
    ):
        for name, scope in (("one", contextlib.nullcontext()), ("two", strategy.scope())):
            keras.utils.set_random_seed(1)
            with scope:
                inputs = keras.Input((5,))
                hidden = keras.layers.Dense(8, activation="tanh")(inputs)
                heads = [keras.layers.Dense(3)(hidden) for _ in range(2)]
                model = resrep_keras.wrap(keras.Model(inputs, heads), method)
                model.compile(keras.optimizers.SGD(0.1, momentum=0.9), make_loss())
            arguments = {"batch_size": 16, "shuffle": False, "verbose": 0}
            for y in labels:
                model.fit(x, y, epochs=3, **arguments)
                resrep_keras.end_task(model, x, y, **arguments)
            found[f"{type(method).__name__} {name}"] = state(model)
    return found


def scopes():
    """A strategy's model handled outside of its scope, and a run that is interrupted."""
    strategy = two_cpus()
    found = {"uninterrupted": {}, "resumed": {}, "outside": {}, "said": {}}

    with strategy.scope():
        model, path = make_model(), f"{os.getpid()}.keras"
    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.save(path) if epoch == 0 else None
    )
    found["uninterrupted"] = state(fit(model, callbacks=[save]))
    with strategy.scope():
        model = keras.models.load_model(path)
    pathlib.Path(path).unlink()
    found["resumed"] = state(fit(model, initial_epoch=1))
    found["resumed"]["removed"] = removed(model)

    with strategy.scope():
        keras.utils.set_random_seed(1)
        dense = make_dense()
    model = resrep_keras.wrap(dense, resrep_keras.ResRep(target_reduction=0.4))
    model.compile("adam", make_loss())
    fit(model)
    found["outside"] = {
        "replicas": np.array(model.distribute_strategy.num_replicas_in_sync),
        "steps": keras.ops.convert_to_numpy(model.optimizer.steps),
        "removed": removed(model),
    }
    for name, refused in (("ours", model), ("Keras", dense)):
        try:
            with strategy.scope():
                refused.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), make_loss())
            fit(refused, epochs=1)
        except Exception as error:  # whatever Keras raises
            found["said"][name] = np.array(f"{type(error).__name__}: {error}")
    return found


def data_parallel():
    """Keras's DataParallel on JAX against one device; batch statistics are the whole batch's."""
    found = {}
    for name in ("one", "two"):
        if name == "two":
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        model = fit(make_model(normalization={"momentum": 0.9}))
        found[name] = state(model)
        found[name]["devices"] = np.array(len(model.variables[0].value.sharding.device_set))
    found["two"]["removed"] = removed(model)
    return found


if __name__ == "__main__":
    scenario, path = sys.argv[1:]
    scenarios = (mirrored, baselines, tasks, scopes, data_parallel)
    runs = {function.__name__: function for function in scenarios}[scenario]()
    np.savez(
        path, **{f"{run}|{key}": v for run, values in runs.items() for key, v in values.items()}
    )
