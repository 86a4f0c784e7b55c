"""Backup: a run that is killed goes on from its last epoch."""

import re

import h5py
import keras
import numpy as np

from resrep_keras.common.checks import check_bool, check_instance, check_path
from resrep_keras.common.files import check_writable, remove, write
from resrep_keras.common.scratch import sweep
from resrep_keras.common.types import Path
from resrep_keras.methods.callback import InFit
from resrep_keras.methods.callback_checks import goes_on
from resrep_keras.training.counters import read_counters, restore_counters
from resrep_keras.training.early_removal.checks import weights_only, wide_weights

WEIGHTS, STATE = "model.weights.h5", "state.npz"
OWNER = "backup"  # of what is left half-written by a process that was killed


class Backup(InFit, keras.callbacks.Callback):
    """Backs up a run at the end of each epoch, and goes on from there when it is started again.

    A run that is killed at any moment, and started again, ends with the same weights, masks and
    optimizer as one that is not, as long as its data come in the same order:

    >>> backup = resrep_keras.Backup("backup")
    >>> def batches():  # the order depends on nothing but the epoch
    ...     for epoch in itertools.count(backup.epoch):
    ...         order = np.random.default_rng(epoch).permutation(len(x))
    ...         for part in np.array_split(order, steps):
    ...             yield x[part], y[part]
    >>> model.fit(
    ...     batches(), epochs=epochs, steps_per_epoch=steps, shuffle=False, callbacks=[backup]
    ... )

    It does what `keras.callbacks.BackupAndRestore` does for whole epochs, which writes over its
    last backup: killed in the middle, it leaves none that can be read; killed between its two
    files, it trains an epoch twice. To lose less than a long epoch, make epochs shorter by
    `steps_per_epoch`.

    Args:
        backup_dir: A local folder for this run alone.
        callbacks: Callbacks that count, whose counters are backed up, too: see `counters`. Defaults
            to all that `fit` runs with, where the model is made by `wrap`.
        delete_checkpoint: Whether the end of `fit` deletes the backup. `False` keeps it until you
            have saved the model. Defaults to `True`.

    Raises:
        ValueError: A backup of another model; an `initial_epoch` that is not the backup's. `fit` of
            a model made by `wrap` finds it by itself; give others
            `fit(initial_epoch=backup.epoch)`.

    Note:
        It must be the last callback that changes or writes anything, which `fit` of a wrapped model
        sees to. An epoch in which training is stopped is not backed up: it is run again.
    """

    def __init__(
        self,
        backup_dir: Path,
        callbacks: list | tuple = (),
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        self.backup_dir = check_path("backup_dir", backup_dir)
        check_instance("callbacks", callbacks, (list, tuple), "a list of callbacks that count")
        for callback in callbacks:
            words = "a keras.callbacks.Callback"
            check_instance("each of callbacks", callback, keras.callbacks.Callback, words)
        self.callbacks = tuple(callbacks)
        self.delete_checkpoint = check_bool("delete_checkpoint", delete_checkpoint)
        self._resumed = 0

    @property
    def epoch(self):
        """The epoch that the run goes on with, counted from 0; 0 where there is no backup."""
        return max(self._backups(), default=0)

    def on_train_begin(self, logs=None):
        check_writable(self.backup_dir)
        self._resumed = self.epoch
        if self._resumed:
            # A compiled optimizer has no state to load into before it is built.
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)
            path = self._backups()[self._resumed]
            try:
                self.model.load_weights(path / WEIGHTS)
                _restore_seeds(self.model, path / STATE)
            except (KeyError, ValueError) as error:
                raise ValueError(
                    f"The backup '{path}' does not fit model '{self.model.name}'. Delete "
                    "it to begin anew, or give Backup a folder of its own."
                ) from error

    def on_epoch_begin(self, epoch, logs=None):
        resumed, self._resumed = self._resumed, 0
        if resumed and epoch != resumed:
            raise ValueError(
                f"The backup in '{self.backup_dir}' goes on with epoch {resumed}, but fit begins "
                f"with epoch {epoch}. Call fit(initial_epoch=backup.epoch)."
            )
        if resumed:  # here, since callbacks begin to count in on_train_begin
            restore_counters(self._counting(), self._backups()[resumed] / STATE)

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training:
            return
        place = self.backup_dir / f"epoch-{epoch + 1}"
        write(place, self._make, _read, folder=True, may_replace=_is_backup, owner=OWNER)
        self._remove(path for path in self._backups().values() if path != place)

    def _make(self, folder):
        folder.mkdir()
        self.model.save_weights(folder / WEIGHTS)
        np.savez(
            folder / STATE,
            **{
                f"seed.{number}": keras.ops.convert_to_numpy(seed)
                for number, seed in enumerate(seeds(self.model))
            },
            **read_counters(self._counting()),
        )

    def on_train_end(self, logs=None):
        if self.delete_checkpoint and self.backup_dir.exists():
            self._remove(self._backups().values())
            if not any(self.backup_dir.iterdir()):
                self.backup_dir.rmdir()

    def _counting(self):
        """The callbacks whose counters are backed up."""
        return self.callbacks or (self.fit_call.callbacks if self.fit_call else ())

    def _backups(self):
        """``{epoch to go on with: folder}``, the oldest first; what has such a name is whole."""
        sweep(self.backup_dir, OWNER)
        names = {
            path: re.fullmatch(r"epoch-(\d+)", path.name) for path in self.backup_dir.glob("*")
        }
        found = {int(match[1]): path for path, match in names.items() if match}
        return {epoch: found[epoch] for epoch in sorted(found)}

    def _remove(self, folders):
        for folder in folders:
            remove(folder, OWNER)


wide_weights.register(Backup)(weights_only)
goes_on.register(Backup)(lambda callback: True)


def _is_backup(folder):
    """Whether a folder holds nothing but a backup."""
    return {entry.name for entry in folder.iterdir()} <= {WEIGHTS, STATE}


def _read(folder):
    """Read every array back, so that a disk that is full shows itself while the old one stands."""

    def read(name, item):
        if isinstance(item, h5py.Dataset):
            item[()]

    with h5py.File(folder / WEIGHTS) as file:
        file.visititems(read)
    with np.load(folder / STATE) as values:
        for name in values.files:
            values[name]


def seeds(model):
    """Variables of random seeds (dropout), which Keras writes into no file."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _restore_seeds(model, path):
    with np.load(path) as values:
        for number, seed in enumerate(seeds(model)):
            seed.assign(values[f"seed.{number}"])
