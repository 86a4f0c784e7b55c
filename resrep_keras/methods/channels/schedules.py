"""When channels are selected during a run, how many, and how fast they are forgotten."""

import dataclasses
import math

import keras
import numpy as np

from resrep_keras.common.checks import check_config, check_number

MOST_SELECTIONS = 10_000
MOST_STEPS = 10**9  # of a run


@dataclasses.dataclass(frozen=True)
class Plan:
    """The selections of one run.

    Args:
        steps: The training steps after which channels are selected.
        forget_steps: Steps in which a masked column shrinks to exact zero, 0 for at once; `None`
            leaves it to the penalty.
        channels_per_selection: How many more channels each selection may take; `None` spreads what
            the target needs evenly over the selections.
    """

    steps: tuple
    forget_steps: int | None
    channels_per_selection: int | None = None

    def allowance(self, step, needed):
        """How many channels may be masked once the selection at `step` is done."""
        number = self.steps.index(step) + 1
        if self.channels_per_selection is not None:
            return number * self.channels_per_selection
        return math.ceil(needed * number / len(self.steps))

    def end(self, last):
        """The step at which the last channel is forgotten; `last` where that is not planned."""
        return last if self.forget_steps is None else self.steps[-1] + self.forget_steps


def _check_run(first, last, steps_per_epoch):
    """The steps of a run as Python ints."""
    first = check_number("first", first, at_least=0, whole=True)
    last = check_number("last", last, at_least=0, at_most=MOST_STEPS, whole=True)
    return first, last, check_number("steps_per_epoch", steps_per_epoch, at_least=1, whole=True)


class Schedule:
    """Base: when channels are selected. A value: equal settings are equal schedules."""

    def get_config(self):
        return dict(vars(self))

    @classmethod
    def from_config(cls, config):
        check_config(cls, config)
        return cls(**config)

    def __eq__(self, other):
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __repr__(self):
        settings = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({settings})"


@keras.saving.register_keras_serializable("resrep_keras")
class PlannedSchedule(Schedule):
    """Spreads selection and forgetting over a run of any length, so that its target is met.

    A short run wants early selection, quick forgetting and most of its steps for recovery. All
    settings are shares of the run.

    Args:
        warmup: Share before the first selection. Defaults to `0.05`.
        selection_end: Share at which the last selection is due. Defaults to `0.25`.
        forgetting: Share in which a masked channel shrinks to zero. Defaults to `0.06`.
        selections: Number of selections. Defaults to `20`.
    """

    def __init__(self, warmup=0.05, selection_end=0.25, forgetting=0.06, selections=20):
        self.warmup = check_number("warmup", warmup, at_least=0, below=1)
        self.selection_end = check_number(
            "selection_end", selection_end, above=self.warmup, below=1
        )
        self.forgetting = check_number("forgetting", forgetting, above=0, below=1)
        self.selections = check_number(
            "selections", selections, at_least=1, below=MOST_SELECTIONS, whole=True
        )
        if selection_end + forgetting > 1:
            raise ValueError(
                "Expected selection_end + forgetting <= 1, so that the last channels are forgotten "
                f"before the run ends; got selection_end={selection_end}, forgetting={forgetting}."
            )

    def plan(self, first, last, steps_per_epoch):
        """The `Plan` for the steps from `first` to `last`."""
        first, last, _ = _check_run(first, last, steps_per_epoch)
        length = last - first
        if length < 2:
            raise ValueError(
                f"Expected a run of at least 2 steps to select and forget channels in, from first "
                f"to last; got {length}. Train for more epochs or steps."
            )
        forget_steps = max(1, round(self.forgetting * length))
        end = min(max(1, round(self.selection_end * length)), length - forget_steps)
        begin = min(max(1, math.ceil(self.warmup * length)), end)
        steps = np.unique(np.linspace(begin, end, self.selections).round().astype(int))
        return Plan(tuple(int(first + step) for step in steps), forget_steps)


@keras.saving.register_keras_serializable("resrep_keras")
class PaperSchedule(Schedule):
    """The paper's settings: a fixed interval, a fixed number of channels, and the penalty alone.

    Args:
        warmup_epochs: Epochs before the first selection. Defaults to `5`.
        interval: Steps between selections. Defaults to `200`.
        channels_per_selection: Channels that each selection adds. Defaults to `4`.

    Reference:
        Ding et al., ICCV 2021, section 4.
    """

    def __init__(self, warmup_epochs=5, interval=200, channels_per_selection=4):
        self.warmup_epochs = check_number("warmup_epochs", warmup_epochs, at_least=0, whole=True)
        self.interval = check_number("interval", interval, at_least=1, whole=True)
        self.channels_per_selection = check_number(
            "channels_per_selection", channels_per_selection, at_least=1, whole=True
        )

    def plan(self, first, last, steps_per_epoch):
        """The `Plan` for the steps from `first` to `last`."""
        first, last, steps_per_epoch = _check_run(first, last, steps_per_epoch)
        begin = first + self.warmup_epochs * steps_per_epoch
        steps = range(begin + self.interval, last, self.interval)
        return Plan(tuple(steps), None, self.channels_per_selection)


def summed_rate(optimizer, begin, end):
    """Sum of the learning rates of the steps from `begin` to `end`, by 100 samples."""
    if end <= begin:
        return 0.0
    try:
        schedule = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
        rates = [schedule(point) for point in np.linspace(begin, end, 100)]
    except (TypeError, ValueError):  # a number, or what cannot be sampled: the rate of now
        rates = [optimizer.learning_rate]
    return float(np.mean([keras.ops.convert_to_numpy(rate) for rate in rates])) * (end - begin)
