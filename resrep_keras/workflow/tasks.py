"""fit_tasks: a sequence of tasks, one after the other, and what is left of each of them."""

import collections.abc
import dataclasses
import json

import keras
import numpy as np

from resrep_keras.common.checks import (
    came,
    check_choice,
    check_function,
    check_instance,
    check_number,
    check_path,
    shown,
)
from resrep_keras.common.files import write_text
from resrep_keras.common.tables import text_table
from resrep_keras.common.types import Arrays, Path
from resrep_keras.graph.probe import in_words
from resrep_keras.methods.consolidation.method import Consolidation
from resrep_keras.methods.consolidation.metrics import (
    average_accuracy,
    forgetting,
    free_capacity,
    learning_accuracy,
)
from resrep_keras.methods.consolidation.outputs import heads_of
from resrep_keras.methods.consolidation.tasks import end_task, task_model
from resrep_keras.methods.wrapped import method_of
from resrep_keras.workflow.kept_tasks import KeptTasks

SCORED_AT_ONCE = 1000  # examples


@dataclasses.dataclass(frozen=True, eq=False)
class TasksResult:
    """What `fit_tasks` returns; `print` it, or see `to_json` and `plot`.

    Args:
        accuracies: Array `(tasks learned, tasks)`; entry `[k, j]` is the accuracy on task `j` after
            task `k`, NaN where task `j` was not yet learned.
        free_capacity: Array `(tasks learned,)`, the share of the trunk's weights that no task up to
            then needs, see `resrep_keras.free_capacity`.
        histories: For each task, what `fit` logged: ``{name: [value of each epoch]}``.
    """

    accuracies: np.ndarray
    free_capacity: np.ndarray
    histories: tuple

    @property
    def average_accuracy(self):
        """See `resrep_keras.average_accuracy`."""
        return average_accuracy(self.accuracies)

    @property
    def forgetting(self):
        """See `resrep_keras.forgetting`."""
        return forgetting(self.accuracies)

    @property
    def learning_accuracy(self):
        """See `resrep_keras.learning_accuracy`."""
        return learning_accuracy(self.accuracies)

    def over_tasks(self):
        """After each task, ``{name: array (tasks learned,)}`` of the three numbers."""
        numbers = {
            "average_accuracy": average_accuracy,
            "forgetting": forgetting,
            "learning_accuracy": learning_accuracy,
        }
        rows = range(1, 1 + len(self.accuracies))
        return {
            name: np.array([number(self.accuracies[:learned]) for learned in rows])
            for name, number in numbers.items()
        }

    def __str__(self):
        numbers = zip(*self.over_tasks().values(), self.free_capacity)
        rows = [
            (f"task {task}", *(f"{100 * value:.2f}" for value in row))
            for task, row in enumerate(numbers)
        ]
        header = ("after", "average", "forgotten", "learned", "free")
        return "\n".join([*text_table(header, rows), "in percent"])

    def to_json(self, path=None):
        """Return the result as a JSON text, and write it to `path` where given."""
        rows = [row[: task + 1] for task, row in enumerate(self.accuracies.tolist())]
        text = json.dumps(
            {
                "tasks": self.accuracies.shape[1],
                "accuracies": rows,
                "free_capacity": self.free_capacity.tolist(),
                "histories": list(self.histories),
            },
            indent=1,
        )
        if path is not None:
            write_text(check_path("path", path), text + "\n")
        return text

    @classmethod
    def from_json(cls, text):
        """The result that `to_json` has told."""
        told = json.loads(text)
        accuracies = np.full((len(told["accuracies"]), told["tasks"]), np.nan)
        for task, row in enumerate(told["accuracies"]):
            accuracies[task, : task + 1] = row
        return cls(accuracies, np.array(told["free_capacity"]), tuple(told["histories"]))

    def plot(self):
        """Return a matplotlib `Figure` of the accuracies, and of what they come to."""
        from resrep_keras.deploy.plots import plot_tasks

        return plot_tasks(self)


def fit_tasks(
    model: keras.Model,
    tasks: collections.abc.Sequence,
    epochs: int | collections.abc.Callable[[int], int] = 1,
    test_tasks: collections.abc.Sequence | None = None,
    *,
    batch_size: int = 32,
    restart: str = "task",
    seed: int | None = None,
    score: collections.abc.Callable[[keras.Model, Arrays, Arrays], float] | None = None,
    callbacks: list | collections.abc.Callable[[int], list] | None = None,
    folder: Path | None = None,
    verbose: int | str = "auto",
) -> TasksResult:
    """Train a model on one task after the other, and test it on all that it has learned.

    ```
    for k, (x, y) in enumerate(tasks):
        model.fit(x, y, epochs=epochs)
        resrep_keras.end_task(model, x, y)
        accuracies[k, : k + 1] = the score on each test task up to k
    ```

    Args:
        model: A model made by `resrep_keras.wrap(dense, ANPyC(...))`, or with another method of
            this kind, compiled.
        tasks: Sequence of `(x, y)`, one a task, as `fit` takes them. Each is asked for when it
            begins, so that an object with `__len__` and `__getitem__` need not hold them all.
        epochs: Epochs of each task, 1 or more, or a function of the number of a task that returns
            them. What the method trains at the end of a task comes on top. Defaults to `1`.
        test_tasks: Sequence of `(x, y)` to test on, one a task. Defaults to `tasks`.
        batch_size: Examples in a step. Defaults to `32`.
        restart: When the learning-rate schedule begins anew, by setting the optimizer's
            `iterations` to 0: `"task"`, with each task, so that it goes on through what the method
            trains at its end; `"fit"`, there, too, with each stage; `"never"`. Defaults to
            `"task"`.
        seed: An int of 0 or more: before task `k`, `keras.utils.set_random_seed(seed + k)`, so that
            a run that goes on ends as one that was never stopped. Defaults to none.
        score: Function of a plain model of one task, `x` and `y`, which returns a number, the
            larger the better. Defaults to the share of examples whose largest output is that of
            their label, an int or one-hot.
        callbacks: List of callbacks for the `fit` of each task, not for training anew, or a
            function of the number of a task that returns one. Defaults to none.
        folder: A folder for this run alone. What was learned is kept there after each task, and a
            run that was killed, and is started again with the same arguments, goes on behind the
            last task that was ended. Defaults to `None`: nothing is kept.
        verbose: As `fit` takes it. Defaults to `"auto"`.

    Returns:
        A `TasksResult`.

    Raises:
        TypeError, ValueError: An argument out of range; a model of another kind, or with fewer
            outputs than there are tasks; a folder that holds another run.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.ANPyC(strength=1.0))
    >>> model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    >>> result = resrep_keras.fit_tasks(model, tasks, epochs=10, test_tasks=test_tasks)
    >>> result.average_accuracy, result.forgetting
    >>> result.plot().savefig("tasks.png")
    """
    test_tasks = tasks if test_tasks is None else test_tasks
    number = _check_sequences(tasks, test_tasks)
    _check_model(model, number)
    check_choice("restart", restart, ("task", "fit", "never"))
    score = accuracy if score is None else check_function("score", score, "a function or None")
    settings = {
        "epochs": _of_tasks("epochs", epochs, number, _check_epochs),
        "batch_size": check_number("batch_size", batch_size, at_least=1, whole=True),
        "restart": restart,
        "seed": None if seed is None else check_number("seed", seed, at_least=0, whole=True),
    }
    each_callbacks = _of_tasks("callbacks", callbacks, number, _check_callbacks)
    kept = KeptTasks(folder, model, {"tasks": number, **settings})
    text = kept.restore()
    result = _nothing(number) if text is None else TasksResult.from_json(text)
    views = {}
    for task in range(len(result.accuracies), number):
        history = _learn(model, tasks[task], task, settings, each_callbacks[task], verbose)
        scores = np.full(number, np.nan)
        for learned in range(task + 1):
            if learned not in views:  # each is traced once
                views[learned] = task_model(model, learned)
            scores[learned] = score(views[learned], *test_tasks[learned])
        result = _with_task(result, scores, free_capacity(model), history)
        kept.keep(task, result.to_json())
    return result


def accuracy(model, x, y):
    """Share of the examples whose largest output is that of their label, an int or one-hot."""
    outputs = np.asarray(model.predict(x, batch_size=SCORED_AT_ONCE, verbose=0))
    labels = np.asarray(y)
    if labels.ndim == outputs.ndim and labels.shape[-1] == outputs.shape[-1]:
        labels = labels.argmax(-1)
    if outputs.ndim != 2 or outputs.shape[-1] < 2 or labels.size != len(outputs):
        raise ValueError(
            "Expected a task to have an output for each class, and labels that are ints or "
            f"one-hot; got outputs of shape {outputs.shape} and labels of shape {labels.shape}. "
            "Give fit_tasks a score of your own."
        )
    return float((outputs.argmax(-1) == labels.reshape(-1)).mean())


def _learn(model, data, task, settings, callbacks, verbose):
    """Train a model on one task, and end it; what `fit` logged."""
    seeds = []
    if settings["seed"] is not None:
        # Once more when fit has begun: to build a model, it draws from the data before.
        seeds = [Seed(settings["seed"] + task)]
        seeds[0].on_train_begin()
    if settings["restart"] == "task":
        _restart(model)
    each = [Restart()] if settings["restart"] == "fit" else []
    how = {"batch_size": settings["batch_size"], "callbacks": each, "verbose": verbose}
    x, y = _check_pair("tasks", data)
    history = model.fit(
        x,
        y,
        epochs=settings["epochs"][task],
        **{**how, "callbacks": [*seeds, *each, *callbacks]},
    )
    end_task(model, x, y, last=task + 1 == len(settings["epochs"]), **how)
    return {name: [float(value) for value in values] for name, values in history.history.items()}


class Seed(keras.callbacks.Callback):
    """Sets the seed of a `fit`, that of the order of its data included."""

    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def on_train_begin(self, logs=None):
        keras.utils.set_random_seed(self.seed)


class Restart(keras.callbacks.Callback):
    """Begins the learning-rate schedule anew with each `fit`."""

    def on_train_begin(self, logs=None):
        _restart(self.model)


def _restart(model):
    optimizer = model.optimizer
    if optimizer.built:
        optimizer.iterations.assign(0)


def _nothing(number):
    return TasksResult(np.empty((0, number)), np.empty(0), ())


def _with_task(result, scores, free, history):
    return TasksResult(
        np.vstack([result.accuracies, scores]),
        np.append(result.free_capacity, free),
        (*result.histories, history),
    )


# --- arguments ------------------------------------------------------------------------------------


def _check_model(model, tasks):
    words = "a compiled model wrapped with ANPyC, EWC, MAS, SynapticIntelligence or FineTuning"
    check_instance("model", model, keras.Model, words)
    check_instance("the method of model", method_of(model), Consolidation, words)
    if not model.compiled:
        raise ValueError(f"Expected model to be {words}. Call model.compile(...) before.")
    heads = len(heads_of(model))
    if 1 < heads < tasks:
        raise ValueError(
            f"Expected model '{model.name}' to have an output for each of {tasks} tasks; it has "
            f"{heads}."
        )


def _check_sequences(tasks, test_tasks):
    """The number of tasks."""
    for name, value in (("tasks", tasks), ("test_tasks", test_tasks)):
        words = "a sequence of (x, y), one a task: a list, or an object with __len__, __getitem__"
        if not _is_sequence(value):
            raise TypeError(f"Expected {name} to be {words}; {came(value)}.")
        if isinstance(value, (list, tuple)):  # others make a task when they are asked
            for each in value:
                _check_pair(name, each)
    number, tests = _length("tasks", tasks), _length("test_tasks", test_tasks)
    if number == 0 or number != tests:
        raise ValueError(
            "Expected tasks and test_tasks to be of the same length, 1 or more; got "
            f"{number} and {tests}."
        )
    return number


def _length(name, value):
    try:
        return len(value)
    except Exception as error:  # whatever an object of the user's raises is told as its own words
        raise TypeError(
            f"Expected {name} to be a sequence of tasks; its __len__ raised {in_words(error)}."
        ) from error


def _is_sequence(value):
    """Whether a value has a length and entries by their number."""
    kind = type(value)
    if isinstance(value, (str, bytes, collections.abc.Mapping, np.ndarray)):
        return False
    return hasattr(kind, "__len__") and hasattr(kind, "__getitem__")


def _check_pair(name, task):
    if not isinstance(task, (list, tuple)) or len(task) != 2:
        raise TypeError(f"Expected {name} to be pairs (x, y), one a task; {came(task)}.")
    return task


def _of_tasks(name, value, number, check):
    """The value of each task: itself, or what a function of the number of a task returns."""
    try:
        values = list(map(value, range(number))) if callable(value) else [value] * number
    except Exception as error:  # a function of the user's may fail in any way
        raise ValueError(
            f"Expected {name} to be what each task takes, or a function that returns it for the "
            f"number of a task, from 0 on; {shown(value)} raised {in_words(error)}."
        ) from error
    return [check(each) for each in values]


def _check_epochs(value):
    return check_number("epochs", value, at_least=1, whole=True)


def _check_callbacks(value):
    words = "a list of callbacks, or a function of the number of a task that returns one"
    return check_instance("callbacks", [] if value is None else value, (list, tuple), words)
