"""What the distributed examples share: the data and nets of the folder above, and saved state."""

import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import nets
import numpy as np


def load_digits(limit=None):
    """The first `limit` training digits, and all test digits."""
    (x, y), test = datasets.load_digits()
    return (x[:limit], y[:limit]), test


def check_batches(size, batch_size):
    """End the program in words where the images do not fill one batch of all devices."""
    if batch_size > size:
        raise SystemExit(
            f"Expected at least one whole batch: {size} training images, and {batch_size} in a "
            "batch of all devices together. Raise --limit, or lower --batch_size."
        )


def make_dense(synchronized=False):
    """The net to prune; `synchronized` takes batch statistics over all replicas."""
    dense = nets.small_resnet((8, 8, 1), num_classes=10, width=24)
    if not synchronized:
        return dense

    def synchronize(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = True
        return type(layer).from_config(config)

    return keras.models.clone_model(dense, clone_function=synchronize)


def save_state(path, variables, **numbers):
    """Write variables and numbers to `path`, which holds the old state or the new one, whole."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    values = {f"variable_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    with open(fresh, "wb") as file:
        np.savez(file, **values, **numbers)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def load_state(path, variables):
    """Read a state into `variables`; return the numbers saved with it, or `{}` without a file."""
    if not path.exists():
        return {}
    with np.load(path) as state:
        found = [name for name in state.files if name.startswith("variable_")]
        if len(found) != len(variables):
            raise ValueError(
                f"'{path}' holds {len(found)} variables; expected {len(variables)}. It was written "
                "by a run with other settings: choose another --output_dir."
            )
        for i, variable in enumerate(variables):
            variable.assign(state[f"variable_{i}"])
        return {name: int(state[name]) for name in state.files if name not in found}
