"""KeptTasks: what a model has learned, kept after each task, so that a killed run goes on."""

import json
import re

import h5py
import keras

from resrep_keras.common.checks import check_path
from resrep_keras.common.files import check_writable, remove, write
from resrep_keras.common.scratch import sweep
from resrep_keras.methods.wrapped import method_of

WEIGHTS, RESULT, SETTINGS = "model.weights.h5", "result.json", "settings.json"
OWNER = "tasks"  # of what is left half-written by a process that was killed


class KeptTasks:
    """The weights and the result of a run after its last task, in a folder.

    A folder that bears the name of a task is whole: it is written under another one, and renamed.

    Args:
        folder: A folder for one run alone; `None` where nothing is kept.
        model: The wrapped model, compiled.
        settings: JSON values that a run must have in common with the one that it goes on from.

    Raises:
        ValueError: Nothing can be written in the folder.
    """

    def __init__(self, folder, model, settings):
        self.folder = None if folder is None else check_path("folder", folder)
        self._model = model
        method = keras.saving.serialize_keras_object(method_of(model))
        self._settings = json.loads(json.dumps({"method": method["config"], **settings}))
        if self.folder is not None:
            check_writable(self.folder)

    def restore(self):
        """Load what was kept last, and return the text of its result; `None` where nothing was.

        Raises:
            ValueError: It was kept by another run, or of another model.
        """
        kept = self._folders()
        if not kept:
            return None
        place = kept[max(kept)]
        self._check(json.loads((place / SETTINGS).read_text(encoding="utf-8")))
        try:
            self._model.load_weights(place / WEIGHTS)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"What was kept in '{place}' does not fit model '{self._model.name}'. Delete "
                f"'{self.folder}' to begin anew, or give another folder."
            ) from error
        return (place / RESULT).read_text(encoding="utf-8")

    def keep(self, task, result):
        """Keep the model, and the text of a result, after a task; what was kept before goes."""
        if self.folder is None:
            return
        before = self._folders()

        def make(place):
            place.mkdir()
            self._model.save_weights(place / WEIGHTS)
            (place / RESULT).write_text(result, encoding="utf-8")
            (place / SETTINGS).write_text(json.dumps(self._settings), encoding="utf-8")

        place = self.folder / f"task-{task}"
        write(place, make, _read, folder=True, owner=OWNER)
        for old in before.values():
            remove(old, OWNER)

    def _check(self, settings):
        other = sorted(
            name
            for name in settings.keys() | self._settings.keys()
            if settings.get(name) != self._settings.get(name)
        )
        if other:
            was, now = (
                ", ".join(f"{name}={values.get(name)}" for name in other)
                for values in (settings, self._settings)
            )
            raise ValueError(
                f"'{self.folder}' holds a run with {was}; got {now}. Give the same to go on with "
                "it, or another folder."
            )

    def _folders(self):
        """``{task: folder}`` of what is kept."""
        if self.folder is None:
            return {}
        sweep(self.folder, OWNER)
        found = {path: re.fullmatch(r"task-(\d+)", path.name) for path in self.folder.glob("*")}
        return {int(match[1]): path for path, match in found.items() if match}


def _read(place):
    """Read every array back, so that a disk that is full shows itself while the old one stands."""

    def read(name, item):
        if isinstance(item, h5py.Dataset):
            item[()]

    with h5py.File(place / WEIGHTS) as file:
        file.visititems(read)
    json.loads((place / RESULT).read_text(encoding="utf-8"))
