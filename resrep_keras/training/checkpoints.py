"""Callbacks that write files: the best pruned model, and backups to resume from.

Neither is ever seen half-written: it is written beside its place, and then renamed.
"""

import functools
import os
import pathlib
import re
import shutil
import warnings

import keras
import numpy as np

from resrep_keras.methods.callback import InFit
from resrep_keras.methods.callback_checks import unpruned_choice
from resrep_keras.methods.channels.callback import PruningCallback


class PrunedCheckpoint(InFit, keras.callbacks.ModelCheckpoint):
    """Keeps the best model among those that are pruned.

    Epochs before the target is met, or in which a masked channel is still being forgotten, do not
    count, however accurate they are. The file holds the wrapped model with its optimizer:

    >>> best = resrep_keras.PrunedCheckpoint("best.keras", monitor="val_accuracy")
    >>> model.fit(train, validation_data=val, epochs=30, callbacks=[best])
    >>> slim = resrep_keras.finalize(keras.models.load_model("best.keras"))

    Args:
        filepath: Path that ends in `.keras`; its last part may hold `{epoch}` and names of the
            logs, as in `keras.callbacks.ModelCheckpoint`.
        monitor: What is compared. Defaults to `"val_loss"`.
        mode: `"min"`, `"max"` or `"auto"`. Defaults to `"auto"`.
        **kwargs: `verbose` and `initial_value_threshold` of `keras.callbacks.ModelCheckpoint`.

    Raises:
        ValueError: Another ending; a model that was not made by `wrap`.
    """

    def __init__(self, filepath, monitor="val_loss", mode="auto", **kwargs):
        path = pathlib.Path(filepath)
        if path.suffix != ".keras":
            raise ValueError(f"Expected a filepath that ends in .keras; got '{filepath}'.")
        super().__init__(path, monitor=monitor, mode=mode, save_best_only=True, **kwargs)
        self._place = path
        self._pruning = None
        self._waited = False  # whether an epoch has passed without a file

    def set_model(self, model):
        super().set_model(model)
        method = getattr(model, "method", None)
        self._pruning = PruningCallback() if method is None else method.callback()
        self._pruning.set_model(model)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._pruning.fit_call = self.fit_call
        self._pruning.on_train_begin()
        self._waited = False

    def on_epoch_end(self, epoch, logs=None):
        if not self._pruning.target_met():
            self._waited = self.best is None
            return
        self._waited = False
        # Keras fills in placeholders, also in the folder's name.
        folder = self._place.parent / f".{re.sub('[{}]', '', self._place.stem)}.writing"
        _make_anew(folder)
        self.filepath = str(folder / self._place.name)
        try:
            super().on_epoch_end(epoch, logs)
        finally:
            self.filepath = str(self._place)
        for written in folder.iterdir():
            _flush(written)
            os.replace(written, self._place.parent / written.name)
        shutil.rmtree(folder)
        _flush(self._place.parent)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._waited:
            warnings.warn(
                f"The target was met in no epoch of this run: '{self._place}' is not written. Train "
                "to the end of the planned run.",
                stacklevel=2,
            )


@unpruned_choice.register
def _pruned_only(callback: PrunedCheckpoint, pruned_from):
    del callback, pruned_from
    return None


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

    It does what `keras.callbacks.BackupAndRestore` does for whole epochs, which writes over its last
    backup: killed in the middle, it leaves none that can be read; killed between its two files, it
    trains an epoch twice. To lose less than a long epoch, make epochs shorter by `steps_per_epoch`.

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

    holds_weights_only = True  # which do not fit a model that has lost channels meanwhile

    def __init__(self, backup_dir, callbacks=(), delete_checkpoint=True):
        super().__init__()
        self.backup_dir = pathlib.Path(backup_dir)
        self.callbacks = tuple(callbacks)
        self.delete_checkpoint = delete_checkpoint
        self._resumed = 0

    @property
    def epoch(self):
        """The epoch that the run goes on with, counted from 0; 0 where there is no backup."""
        return max(self._backups(), default=0)

    def on_train_begin(self, logs=None):
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
            _restore_counters(self._counting(), self._backups()[resumed] / STATE)

    def on_epoch_end(self, epoch, logs=None):
        if self.model.stop_training:
            return
        fresh, place = self.backup_dir / ".writing", self.backup_dir / f"epoch-{epoch + 1}"
        _make_anew(fresh)
        self.model.save_weights(fresh / WEIGHTS)
        np.savez(
            fresh / STATE,
            **{
                f"seed.{number}": keras.ops.convert_to_numpy(seed)
                for number, seed in enumerate(seeds(self.model))
            },
            **_read_counters(self._counting()),
        )
        for path in (fresh / WEIGHTS, fresh / STATE, fresh):
            _flush(path)
        self._remove({epoch + 1: place} if place.exists() else {})
        os.rename(fresh, place)
        _flush(self.backup_dir)
        self._remove({n: path for n, path in self._backups().items() if path != place})

    def on_train_end(self, logs=None):
        if self.delete_checkpoint and self.backup_dir.exists():
            self._remove(self._backups())
            shutil.rmtree(self.backup_dir / ".writing", ignore_errors=True)
            if not any(self.backup_dir.iterdir()):
                self.backup_dir.rmdir()

    def _counting(self):
        """The callbacks whose counters are backed up."""
        return self.callbacks or (self.fit_call.callbacks if self.fit_call else ())

    def _backups(self):
        """``{epoch to go on with: folder}``; what has such a name is whole."""
        names = {
            path: re.fullmatch(r"epoch-(\d+)", path.name) for path in self.backup_dir.glob("*")
        }
        return {int(match[1]): path for path, match in names.items() if match}

    def _remove(self, backups):
        """Delete folders, the oldest first: each loses its name before its files."""
        gone = self.backup_dir / ".removed"
        for _, path in sorted(backups.items()):
            shutil.rmtree(gone, ignore_errors=True)
            os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)


WEIGHTS, STATE = "model.weights.h5", "state.npz"


def seeds(model):
    """Variables of random seeds (dropout), which Keras writes into no file."""
    weights = {id(weight) for weight in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _restore_seeds(model, path):
    with np.load(path) as values:
        for number, seed in enumerate(seeds(model)):
            seed.assign(values[f"seed.{number}"])


@functools.singledispatch
def counters(callback):
    """Names of the attributes in which a callback counts, numbers or lists of arrays.

    Register your own: ``counters.register(MyCallback, lambda callback: ("best",))``.
    """
    del callback
    return ()


@counters.register
def _early_stopping(callback: keras.callbacks.EarlyStopping):
    return ("best", "wait", "best_epoch", "stopped_epoch", "best_weights")


@counters.register
def _plateau(callback: keras.callbacks.ReduceLROnPlateau):
    return ("best", "wait", "cooldown_counter")


@counters.register
def _checkpoint(callback: keras.callbacks.ModelCheckpoint):
    return ("best",)


def _named_counters(callbacks):
    """Triples `(callback, attribute, key in the file)`."""
    for position, callback in enumerate(callbacks):
        for name in counters(callback):
            yield callback, name, f"{position}.{type(callback).__name__}.{name}"


def _read_counters(callbacks):
    values = {}
    for callback, name, key in _named_counters(callbacks):
        value = getattr(callback, name)
        if isinstance(value, (list, tuple)):
            values.update({f"{key}.{number}": array for number, array in enumerate(value)})
        elif value is not None:
            values[key] = value
    return values


def _restore_counters(callbacks, path):
    with np.load(path) as values:
        for callback, name, key in _named_counters(callbacks):
            arrays = [k for k in values.files if k.startswith(f"{key}.")]
            if key in values.files:
                setattr(callback, name, values[key].item())
            elif arrays:
                setattr(callback, name, [values[f"{key}.{n}"] for n in range(len(arrays))])


def _make_anew(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _flush(path):
    """See to it that a file or folder is on the disk, should the power fail."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
