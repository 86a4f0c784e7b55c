"""PrunedCheckpoint: the best model among those that are pruned."""

import pathlib
import re
import typing
import warnings
import zipfile

import keras

from resrep_keras.common.checks import check_choice, check_instance, check_number, check_path
from resrep_keras.common.files import check_place, check_writable, new_in, put
from resrep_keras.common.scratch import scratch_folder, sweep
from resrep_keras.common.types import Path
from resrep_keras.methods.callback import InFit
from resrep_keras.methods.callback_checks import unpruned_choice
from resrep_keras.methods.channels.callback import PruningCallback
from resrep_keras.methods.wrapped import method_of
from resrep_keras.training.log_names import fields_of, missing_names


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
        ValueError: Another ending, or a placeholder that cannot be filled. Before the first step:
            a model that was not made by `wrap`, or cannot be saved; names that no log will have; a
            folder in which nothing can be written.
    """

    def __init__(
        self,
        filepath: Path,
        monitor: str = "val_loss",
        mode: str = "auto",
        **kwargs: typing.Any,
    ) -> None:
        path = check_path("filepath", filepath)
        if path.suffix != ".keras":
            raise ValueError(f"Expected a filepath that ends in .keras; got '{filepath}'.")
        check_instance("monitor", monitor, str, "the name of a metric such as 'val_loss'")
        check_choice("mode", mode, ("min", "max", "auto"))
        _check_others(**kwargs)
        super().__init__(path, monitor=monitor, mode=mode, save_best_only=True, **kwargs)
        self._place, self._fields = path, fields_of(path)
        self._pruning = None
        self._waited = False  # whether an epoch has passed without a file

    def set_model(self, model):
        super().set_model(model)
        method = method_of(model)
        self._pruning = PruningCallback() if method is None else method.callback()
        self._pruning.set_model(model)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._pruning.fit_call = self.fit_call
        self._pruning.on_train_begin()
        self._pruning.fit_call = None
        self._waited = False
        own = self._pruning.method.logs(self.model)
        self._check_names(
            missing_names({*self._fields, self.monitor}, self.model, self.fit_call, own)
        )
        self._try()

    def _check_names(self, missing):
        if missing:
            raise ValueError(
                f"PrunedCheckpoint asks for {', '.join(missing)}, which no log of this run has: "
                f"monitor='{self.monitor}', filepath='{self._place}'. Expected names of the loss "
                "and of metrics that the model is compiled with, with 'val_' before them where fit "
                "is given validation data."
            )

    def _try(self):
        """Write the model once, and delete it: what fails does so before the first step."""
        if not self._fields:
            check_place(self._place)
        check_writable(self._place.parent)
        with scratch_folder(self._place.parent, _owner(self._place)) as scratch:
            fresh = new_in(scratch) / "trial.keras"
            try:
                self.model.save(fresh)
                _read(fresh)
            except (NotImplementedError, OSError, TypeError, ValueError) as error:
                raise ValueError(
                    f"Model '{self.model.name}' cannot be saved, which PrunedCheckpoint would do "
                    f"for '{self._place}' at the end of an epoch. The error was: {error}"
                ) from error

    def on_epoch_end(self, epoch, logs=None):
        missing = {*self._fields, self.monitor} - {"epoch", *(logs or {})}
        if not (self.fit_call and self.fit_call.validates and _validated(missing)):
            self._check_names(sorted(missing))
        if missing or not self._pruning.target_met():  # or an epoch without validation
            self._waited = self.best is None
            return
        self._waited = False
        folder, owner = self._place.parent, _owner(self._place)
        sweep(folder, owner)
        with scratch_folder(folder, owner) as scratch:
            fresh = new_in(scratch)
            # Keras fills in placeholders, also in the folder's name.
            escaped = re.sub(r"([{}])", r"\1\1", str(fresh))
            self.filepath = str(pathlib.Path(escaped) / self._place.name)
            try:
                super().on_epoch_end(epoch, logs)
            finally:
                self.filepath = str(self._place)
            for written in fresh.iterdir():
                _read(written)
                put(written, folder / written.name)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._waited:
            warnings.warn(
                f"The target was met in no epoch of this run: '{self._place}' is not written. "
                "Train to the end of the planned run.",
                stacklevel=2,
            )


def _validated(names):
    """Whether names are those of validation, which may come in some epochs only."""
    return all(name.startswith("val_") for name in names)


def _owner(path):
    """What scratch folders of a path with placeholders are called by."""
    return re.sub("[{}]", "", path.stem)


def _check_others(verbose=0, initial_value_threshold=None, **unknown):
    if unknown:
        raise TypeError(
            "Expected no other arguments of ModelCheckpoint than verbose and "
            f"initial_value_threshold; got {', '.join(unknown)}. A PrunedCheckpoint keeps whole "
            "models, the best of the pruned ones, and looks at each epoch."
        )
    check_number("verbose", verbose, at_least=0, at_most=2, whole=True)
    if initial_value_threshold is not None:
        check_number("initial_value_threshold", initial_value_threshold)


def _read(path):
    """Read a `.keras` file back, all its check sums: the old one is still there."""
    with zipfile.ZipFile(path) as archive:
        wrong = archive.testzip()
    if wrong is not None:
        raise OSError(f"'{wrong}' in the file that was written for '{path.name}' cannot be read.")


@unpruned_choice.register
def _pruned_only(callback: PrunedCheckpoint, pruned_from):
    del callback, pruned_from
    return None
