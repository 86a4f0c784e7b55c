"""A pruning run to be killed: ``python interrupted_run.py FOLDER [PLACE]``.

It adds a byte to FOLDER/batches after each batch, and writes FOLDER/result.npz when it is done.
Started again, it goes on. With PLACE it kills itself there, once: see `PLACES`.
"""

import itertools
import os
import pathlib
import shutil
import signal
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from keras.ops import convert_to_numpy as to_numpy

import resrep_keras
from resrep_keras.layers.compactor import Compactor

EPOCHS, STEPS, BATCH_SIZE = 24, 6, 8
# Long enough for a signal to hit any part of the run.
PAUSE = float(os.environ.get("INTERRUPTED_RUN_PAUSE", "0"))


def make_model():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 3, activation="relu")(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    x = layers.Dense(12, activation="tanh")(x)
    model = resrep_keras.wrap(keras.Model(inputs, layers.Dense(3)(x)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    return model


def data(size, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(size, 8, 8, 3)).astype("float32"), generator.integers(0, 3, size)


def batches(first_epoch):
    """Training data whose order depends on nothing but the epoch."""
    x, y = data(STEPS * BATCH_SIZE)
    for epoch in itertools.count(first_epoch):
        order = np.random.default_rng(epoch).permutation(len(x))
        for part in np.split(order, STEPS):
            yield x[part], y[part]


class Count(keras.callbacks.Callback):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        with open(self.path, "ab") as file:
            file.write(b".")
        time.sleep(PAUSE)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def in_the_middle_of_a_write(flag):
    """Half a file is on the disk."""
    save = keras.Model.save_weights

    def save_weights(self, filepath, *args, **kwargs):
        save(self, filepath, *args, **kwargs)
        if "epoch-9" in os.listdir(pathlib.Path(filepath).parents[3]) and not flag.exists():
            flag.touch()
            os.truncate(filepath, os.path.getsize(filepath) // 2)
            kill()

    keras.Model.save_weights = save_weights


def between_two_backups(flag):
    """The new backup is in its place, and the old one half removed."""
    remove = shutil.rmtree

    def rmtree(path, *args, **kwargs):
        files = sorted(pathlib.Path(path).glob("epoch-*/*"))
        if files and not flag.exists():
            flag.touch()
            files[0].unlink()
            kill()
        remove(path, *args, **kwargs)

    shutil.rmtree = rmtree


def in_the_middle_of_a_checkpoint(flag):
    save = keras.Model.save

    def half(self, filepath, *args, **kwargs):
        save(self, filepath, *args, **kwargs)
        if pathlib.Path(filepath).name != "trial.keras" and not flag.exists():
            flag.touch()
            os.truncate(filepath, os.path.getsize(filepath) // 2)
            kill()

    keras.Model.save = half


def in_the_middle_of_a_selection(flag):
    """One compactor has its new mask, the others not."""
    from resrep_keras.methods.channels.channel_state import ChannelState

    def set_masks(self, kept):
        write(self, kept)
        selections = len(list(flag.parent.glob("selection-*")))
        (flag.parent / f"selection-{selections}").touch()
        if selections == 5 and not flag.exists():
            flag.touch()
            self.compactors[-1][0].keep_mask.assign(~to_numpy(self.compactors[-1][0].keep_mask))
            kill()

    write, ChannelState.set_masks = ChannelState.set_masks, set_masks


PLACES = {
    place.__name__: place
    for place in (
        in_the_middle_of_a_write,
        between_two_backups,
        in_the_middle_of_a_checkpoint,
        in_the_middle_of_a_selection,
    )
}


def main(folder, place=None):
    folder = pathlib.Path(folder)
    if place is not None:
        PLACES[place](folder / place)
    model = make_model()
    # It stays until the result is written.
    backup = resrep_keras.Backup(folder / "backup", delete_checkpoint=False)
    best = resrep_keras.PrunedCheckpoint(folder / "best.keras")
    plateau = keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.7)
    model.fit(
        batches(backup.epoch),
        steps_per_epoch=STEPS,
        shuffle=False,
        epochs=EPOCHS,
        validation_data=data(24, seed=1),
        callbacks=[Count(folder / "batches"), backup, best, plateau],
        verbose=0,
    )
    masks = [to_numpy(c.keep_mask) for c in model.layers if isinstance(c, Compactor)]
    best_model = keras.models.load_model(folder / "best.keras")
    values = {
        **{f"mask.{number}": mask for number, mask in enumerate(masks)},
        **{f"weight.{w.path}": to_numpy(w) for w in model.weights},
        **{f"variable.{number}": to_numpy(v) for number, v in enumerate(model.variables)},
        **{f"optimizer.{n}": to_numpy(v) for n, v in enumerate(model.optimizer.variables)},
        **{f"best.{number}": to_numpy(v) for number, v in enumerate(best_model.variables)},
    }
    resrep_keras.finalize(model, strict=True)
    fresh = folder / "fresh.npz"
    np.savez(fresh, **values)
    os.replace(fresh, folder / "result.npz")


if __name__ == "__main__":
    main(*sys.argv[1:])
