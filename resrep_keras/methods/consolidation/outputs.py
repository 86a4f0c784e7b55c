"""The outputs of a model, one for each task, and which of them is in use."""

import keras

from resrep_keras.keras_adapter import automatic_names_kept
from resrep_keras.methods.wrapped import notes_of
from resrep_keras.optimizers.wrapper import find_wrapper

TASK = "task"  # in the notes of a state: the number of the current task


def heads_of(model):
    """The symbolic outputs of a model in the order of the tasks, ``{name: tensor}``.

    A dict counts in the order in which it was written, where Keras sorts its names.
    """
    outputs = model.output
    if isinstance(outputs, dict):
        return dict(outputs)
    return {str(place): tensor for place, tensor in enumerate(keras.tree.flatten(outputs))}


def current_task(model):
    """The number of the task whose output the model gives; after the last one, the last.

    It is known while a step is traced, when no variable can be read.
    """
    wrapper = find_wrapper(model.optimizer) if model.compiled else None
    task = 0 if wrapper is None else wrapper.state.notes.get(TASK, 0)
    number = len(heads_of(model))
    return min(task, number - 1) if number > 1 else task


def view_of(model, task):
    """The part of a model that computes the output of a task; it shares all layers."""
    heads, views = list(heads_of(model).values()), notes_of(model).setdefault("views", {})
    task = task if len(heads) > 1 else 0
    if task not in views:
        tensor = heads[task]
        with automatic_names_kept():
            views[task] = keras.Model(model.input, tensor, name=f"{model.name}_task_{task}")
    return views[task]
