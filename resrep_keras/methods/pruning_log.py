"""PruningLog: what became of the channels of a wrapped model, and of its metrics, as it trained.

It is small, however long the run: of each selection and each epoch a few numbers.
"""

import dataclasses
import functools
import numbers
from collections.abc import Mapping

import keras
import numpy as np

from resrep_keras.common.checks import came
from resrep_keras.methods.wrapped import notes_of

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
MOST = 2_000  # entries; beyond that, every other one between the ends of epochs goes


@dataclasses.dataclass(frozen=True)
class Norms:
    """The column norms of compactors at one moment.

    Args:
        kept: Their `QUANTILES` over the channels that remember; empty where there are none.
        masked: The same over those that are being forgotten, or are zero.
        num_kept: How many channels remember.
        num_masked: How many are masked and not yet zero.
        num_zero: How many are masked and zero, or gone.
        total: The sum of all, which the penalty of a group lasso presses.
    """

    kept: tuple = ()
    masked: tuple = ()
    num_kept: int = 0
    num_masked: int = 0
    num_zero: int = 0
    total: float = 0.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """One moment of a run.

    Args:
        step: Steps that were trained before it.
        epoch: Epochs that have ended, at the end of one; `None` at a selection.
        values: ``{name: number}``: what was logged.
        norms: The `Norms`; `None` where the method has no compactors.
    """

    step: int
    epoch: int | None
    values: dict
    norms: Norms | None = None


class PruningLog:
    """The `Entry`s of a run, in their order; runs that follow each other are one.

    Args:
        entries: The first ones. Defaults to none.
        counts: What `step` of an entry counts. Defaults to `"training step"`.
    """

    def __init__(self, entries=(), counts="training step"):
        self.entries, self.counts = list(entries), counts

    def add(self, step, epoch, values, norms=None):
        """Note a moment; what is no single number is left out."""
        numbers_only = {name: float(v) for name, v in values.items() if _is_number(v)}
        numbers_only = {name: v for name, v in numbers_only.items() if not np.isnan(v)}
        self.entries.append(Entry(int(step), epoch, numbers_only, norms))
        if len(self.entries) > MOST:
            self._thin()

    def _thin(self):
        free = [n for n, entry in enumerate(self.entries) if entry.epoch is None]
        gone = set(free[::2] or range(1, len(self.entries) - 1, 2))
        self.entries = [entry for n, entry in enumerate(self.entries) if n not in gone]

    def curve(self, name):
        """`(steps, values)` of a logged number, where it was logged."""
        pairs = [(e.step, e.values[name]) for e in self.entries if name in e.values]
        return tuple(zip(*pairs)) if pairs else ((), ())

    def names(self):
        """The names of what was logged, each once."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.values))

    @property
    def epochs(self):
        """The entries at the ends of epochs."""
        return [entry for entry in self.entries if entry.epoch is not None]

    @property
    def with_norms(self):
        """The entries that tell of norms."""
        return [entry for entry in self.entries if entry.norms is not None]

    def to_dict(self):
        """JSON values."""
        return {"counts": self.counts, "entries": [dataclasses.asdict(e) for e in self.entries]}

    @classmethod
    def from_dict(cls, told):
        """The log that `to_dict` has told."""
        return cls([_entry(**each) for each in told["entries"]], told["counts"])


@functools.singledispatch
def as_log(history):
    """The `PruningLog` of what was recorded of a run.

    Args:
        history: A `PruningLog`, what `fit` returns, or ``{name: values by epoch}``.

    Raises:
        TypeError: Something else.
    """
    raise TypeError(
        "Expected history to be what fit() returns, a dict of lists such as its history, or a "
        f"PruningLog; {came(history)}."
    )


@as_log.register
def _itself(history: PruningLog):
    return history


@as_log.register
def _of_keras(history: keras.callbacks.History):
    return as_log(history.history)


@as_log.register(Mapping)
def _by_epoch(history):
    log = PruningLog(counts="epoch")
    for epoch in range(max(map(len, history.values()), default=0)):
        values = {name: row[epoch] for name, row in history.items() if epoch < len(row)}
        log.add(epoch + 1, epoch + 1, values)
    return log


def _is_number(value):
    single = isinstance(value, numbers.Real | np.ndarray) and np.ndim(value) == 0
    return single and not isinstance(value, bool)


def _entry(step, epoch, values, norms):
    if norms is not None:
        lists = {name: tuple(norms.pop(name)) for name in ("kept", "masked")}
        norms = Norms(**lists, **norms)
    return Entry(step, epoch, values, norms)


def norms_of(channel_state):
    """The `Norms` of a `ChannelState`."""
    free = [group.channels[~group.pinned] for group in channel_state.groups]
    free = np.concatenate([*free, np.zeros(0, np.int64)]).astype(np.int64)
    norms, kept = channel_state.norms(), channel_state.kept()
    free = free[np.isfinite(norms[free])]  # the others have no compactor
    norms, kept = norms[free], kept[free]
    masked = norms[~kept]
    return Norms(
        kept=_quantiles(norms[kept]),
        masked=_quantiles(masked),
        num_kept=int(kept.sum()),
        num_masked=int((masked > 0).sum()),
        num_zero=int((masked == 0).sum()) + channel_state.removed,
        total=_short(norms.sum()),
    )


def _quantiles(values):
    if not len(values):
        return ()
    return tuple(map(_short, np.quantile(values, QUANTILES)))


def _short(value):
    return float(f"{value:.6g}")


# --- where it is kept -----------------------------------------------------------------------------

NAME = "log"


def log_of(model):
    """The `PruningLog` of a model; `None` where none was recorded."""
    return notes_of(model).get(NAME)


def keep_log(model, log):
    """Have a model carry a log, or none."""
    if log is None:
        notes_of(model).pop(NAME, None)
    else:
        notes_of(model)[NAME] = log
    return log
