"""Which variables of a model are its trunk, and which belong to the head of one task."""

import collections
import dataclasses

from resrep_keras.methods.consolidation.outputs import heads_of, view_of
from resrep_keras.methods.patterns import check_patterns, is_named


@dataclasses.dataclass(frozen=True)
class Places:
    """The trainable variables of a model, by their paths.

    Args:
        trunk: Those that several outputs read; of a model with one output, all but the heads.
        tasks: ``{path: numbers of the tasks that read it}``, where these are not all of them.
    """

    trunk: tuple
    tasks: dict


def places_of(model, heads=None, paths=None):
    """The `Places` of a model, each of whose outputs is a task.

    Args:
        model: A Functional model.
        heads: Of a model with one output, patterns of the layers that are no trunk.
        paths: ``{layer: names of the models and layers around it}``.

    Raises:
        ValueError: Nothing is trunk; patterns for a model with several outputs, or such that fit
            nothing; variables of the same path.
    """
    _check_paths(model)
    outputs = heads_of(model)
    if len(outputs) == 1:
        trunk, tasks = _of_one_output(model, heads or (), paths or {}), {}
    else:
        if heads is not None:
            raise ValueError(
                f"Expected heads=None for model '{model.name}' with {len(outputs)} outputs, whose "
                f"heads are the variables that one output alone reads; got {heads!r}."
            )
        trunk, tasks = _of_outputs(model, len(outputs))
    if not trunk:
        words = (
            f"nothing beside the layers of heads={heads!r} is trained"
            if len(outputs) == 1
            else f"none of its trainable variables is read by two of its {len(outputs)} outputs"
        )
        raise ValueError(
            f"Nothing to consolidate in model '{model.name}': expected a trunk that the tasks "
            f"share, but {words}."
        )
    return Places(tuple(trunk), tasks)


def _of_one_output(model, heads, paths):
    around = {layer.name: paths.get(layer.name, ()) for layer in model.layers if layer.weights}
    check_patterns("heads", heads, around)
    free = {
        id(weight)
        for layer in model.layers
        if is_named(layer.name, heads, paths.get(layer.name, ()))
        for weight in layer.weights
    }
    return [v.path for v in model.trainable_variables if id(v) not in free]


def _of_outputs(model, number):
    readers = collections.defaultdict(list)
    for task in range(number):
        for variable in view_of(model, task).variables:
            readers[id(variable)].append(task)
    found = {v.path: readers[id(v)] for v in model.trainable_variables}
    trunk = [path for path, tasks in found.items() if len(tasks) > 1]
    return trunk, {path: tasks for path, tasks in found.items() if len(tasks) < number}


def _check_paths(model):
    numbers = collections.Counter(variable.path for variable in model.trainable_variables)
    double = [path for path, number in numbers.items() if number > 1]
    if double:
        raise ValueError(
            f"Expected variables with paths of their own, by which importance is kept; several of "
            f"model '{model.name}' are called '{double[0]}'. Give their layers names of their own."
        )
