"""Between tasks: `end_task` goes on to the next one, `task_model` shows any of them."""

import typing

import keras

from resrep_keras.common.checks import check_bool, check_instance, check_number
from resrep_keras.common.types import Arrays, Data
from resrep_keras.keras_adapter import compile_arguments
from resrep_keras.methods.callback_checks import goes_on
from resrep_keras.methods.consolidation.data import TaskData
from resrep_keras.methods.consolidation.method import Consolidation, check_importance
from resrep_keras.methods.consolidation.outputs import heads_of, view_of
from resrep_keras.methods.wrapped import method_of, notes_of
from resrep_keras.optimizers.wrapper import find_wrapper


def end_task(
    model: keras.Model, x: Data, y: Arrays = None, last: bool = False, **retraining: typing.Any
) -> None:
    """Say that a task is learned: the next `fit` trains the next one.

    The importance of each weight of the trunk is measured, its value becomes the reference of the
    penalty, and `fit`, `evaluate` and `predict` go on with the next output. `ANPyC` with
    `initial_percent` frees weights before, and trains anew under the mask, with the rate where it
    is; the last task frees none. What is trained anew goes on from no backup: after a kill, it
    begins again behind the `fit` before it, see `docs/consolidation.md`.

    Args:
        model: A model made by `wrap(model, ANPyC(...))`, `EWC`, `MAS`, `SynapticIntelligence` or
            `FineTuning`, compiled and trained on the task.
        x: Inputs of the task: arrays in the structure of the model's inputs; or a
            `tf.data.Dataset`, `PyDataset` or other iterable of batches that can be read more than
            once.
        y: Labels beside arrays. Needed by `EWC`, and where weights are freed.
        last: Whether no task comes after this one, for a model with one output; with several, the
            last output tells. Defaults to `False`.
        **retraining: Arguments of `fit` for the training anew, such as `batch_size`, `verbose` and
            `callbacks`; `steps_per_epoch` is also how many batches of a dataset are read.

    Raises:
        TypeError: Not a model of such a method, or data of another kind.
        ValueError: A model that was never trained; a `Backup` for what is trained anew; a task
            behind the last one; no labels; data of other shapes; importance that is NaN.

    Example:

    >>> for x, y in tasks:
    ...     model.fit(x, y, epochs=10)
    ...     resrep_keras.end_task(model, x, y)
    """
    method, wrapper = _method_of(model), _wrapper_of(model)
    last = check_bool("last", last) or wrapper.task_number + 1 == wrapper.num_tasks
    data = TaskData(model, x, y, retraining.get("steps_per_epoch"))
    frees = method.prunes and not last
    if not data.has_labels and (method.reads_labels or frees):
        why = "trains anew where it frees weights" if frees else "measures importance by labels"
        raise ValueError(
            "Expected labels, end_task(model, x, y), or a dataset of pairs: "
            f"{type(method).__name__} {why}; got none."
        )
    if frees:
        _check_callbacks(retraining.get("callbacks"))
        arguments = {"verbose": 0, **retraining}
        method.free(
            model, wrapper, data, lambda epochs: model.fit(x, y, epochs=epochs, **arguments)
        )
    importance = method.measure(model, wrapper, data)
    check_importance(importance, wrapper)
    wrapper.end_task(importance, method.accumulate)


def _check_callbacks(given):
    """Raise where a callback would bring a stage of the training anew back into another one."""
    if isinstance(given, keras.callbacks.CallbackList):
        given = given.callbacks
    for callback in keras.tree.flatten(given or []):
        if goes_on(callback):
            kind = type(callback).__name__
            raise ValueError(
                f"Expected callbacks of end_task that go on from no backup; got {kind}. What is "
                "trained anew goes through stages, each with a fit of its own, and would begin "
                "with the backup of another stage. Back up the fit before it, fit(..., callbacks=["
                "resrep_keras.Backup(folder, delete_checkpoint=False)]): after a kill, fit brings "
                "its last epoch back, and end_task goes through its stages again. Or use "
                "resrep_keras.fit_tasks(..., folder=...)."
            )


def task_model(model: keras.Model, task: int) -> keras.Model:
    """The model of one task, for `predict` and `evaluate`; it shares all layers with `model`.

    Args:
        model: As for `end_task`, at any time.
        task: Number of the task, from 0 on.

    Returns:
        A plain Functional `keras.Model` with one output. Where `model` is compiled, it has its loss
        and metrics. Training it would go around what is held.

    Raises:
        TypeError: Not such a model, or not a number.
        ValueError: There is no such task.

    Example:

    >>> resrep_keras.task_model(model, 0).evaluate(x, y)
    """
    _method_of(model)
    number = len(heads_of(model))
    most = number - 1 if number > 1 else None
    task = check_number("task", task, at_least=0, at_most=most, whole=True)
    view = view_of(model, task)
    if model.compiled:
        _compile_alike(model, view)
    return view


def _compile_alike(model, view):
    """With the loss and the metrics of the model, but once, so that nothing is traced anew."""
    arguments = compile_arguments(model)
    made = notes_of(view).get("compiled")
    if made is not None and made == arguments:
        return
    kept = {
        name: arguments[name]
        for name in ("loss", "metrics", "weighted_metrics", "run_eagerly", "jit_compile")
        if name in arguments
    }
    copies = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(kept))
    view.compile(optimizer="sgd", **copies)
    notes_of(view)["compiled"] = arguments


def _method_of(model):
    check_instance("model", model, keras.Model, "a keras.Model made by resrep_keras.wrap")
    method = method_of(model)
    if method is None:
        raise TypeError(
            f"Model '{model.name}' holds no method. Expected a model made by resrep_keras.wrap("
            "model, resrep_keras.ANPyC()), or another method that learns task after task."
        )
    words = "a model wrapped with ANPyC, EWC, MAS, SynapticIntelligence or FineTuning"
    if not isinstance(method, Consolidation):
        raise TypeError(f"Expected model to be {words}; got one with {type(method).__name__}.")
    return method


def _wrapper_of(model):
    wrapper = find_wrapper(model.optimizer) if model.compiled else None
    if wrapper is None:
        raise ValueError(
            f"Model '{model.name}' is not compiled. Expected model.compile(...) and "
            "model.fit(x, y) for the task before end_task(model, x)."
        )
    if not model.optimizer.built:  # what was trained before wrap() knows a task already
        model.optimizer.build(model.trainable_variables)
    if wrapper.is_over:
        raise ValueError(
            f"All {wrapper.num_tasks} tasks of model '{model.name}' have ended. Expected one "
            "end_task() for each output."
        )
    return wrapper
