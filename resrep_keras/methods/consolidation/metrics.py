"""What is told of a sequence of tasks: numbers of its matrix of accuracies.

Row `k` of such a matrix `R` holds the accuracy on each task after task `k` was learned. What lies
right of the diagonal, tasks that are not yet learned, is read by none of these functions.
"""

import typing

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import as_array, check_instance
from resrep_keras.common.types import Arrays
from resrep_keras.methods.consolidation.optimizer import ConsolidationOptimizer
from resrep_keras.optimizers.wrapper import find_wrapper


def average_accuracy(accuracies: Arrays) -> float:
    """Mean accuracy over all tasks that were learned, at the end.

    ```
    1/K * sum over j of R[K-1, j]
    ```

    Args:
        accuracies: Array `(tasks learned, tasks)`; entry `[k, j]` is the accuracy on task `j` after
            task `k`. Of the first rows alone, `average_accuracy(R[: k + 1])` is that after task
            `k`.

    Returns:
        A float, in the unit of the accuracies.

    Raises:
        ValueError: Not such an array.

    Reference:
        Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017,
        section 2.

    Example:

    >>> resrep_keras.average_accuracy([[0.9, np.nan], [0.5, 0.8]])
    0.65
    """
    accuracies = _checked(accuracies)
    learned = len(accuracies)
    return float(accuracies[-1, :learned].mean())


def forgetting(accuracies: Arrays) -> float:
    """Mean loss of accuracy on earlier tasks, from its best to its last; 0 of a single task.

    ```
    1/(K-1) * sum over j < K-1 of (max over j <= k < K-1 of R[k, j]) - R[K-1, j]
    ```

    Below zero where later tasks have helped earlier ones.

    Args:
        accuracies: See `average_accuracy`.

    Returns:
        A float, in the unit of the accuracies.

    Raises:
        ValueError: Not such an array.

    Reference:
        Chaudhry et al., "Riemannian Walk for Incremental Learning: Understanding Forgetting and
        Intransigence", ECCV 2018, section 3.2.

    Example:

    >>> resrep_keras.forgetting([[0.9, np.nan], [0.5, 0.8]])
    0.4
    """
    accuracies = _checked(accuracies)
    last = len(accuracies) - 1
    lost = [accuracies[j:last, j].max() - accuracies[last, j] for j in range(last)]
    return float(np.mean(lost)) if lost else 0.0


def learning_accuracy(accuracies: Arrays) -> float:
    """Mean accuracy on each task right after it was learned: how well the net still learns.

    ```
    1/K * sum over k of R[k, k]
    ```

    Args:
        accuracies: See `average_accuracy`.

    Returns:
        A float, in the unit of the accuracies.

    Raises:
        ValueError: Not such an array.

    Reference:
        Riemer et al., "Learning to Learn without Forgetting by Maximizing Transfer and Minimizing
        Interference", ICLR 2019, section 5.

    Example:

    >>> resrep_keras.learning_accuracy([[0.9, np.nan], [0.5, 0.8]])
    0.85
    """
    return float(np.diagonal(_checked(accuracies)).mean())


def free_capacity(model: keras.Model) -> float:
    """Share of the trunk's weights that no task needs so far: their importance is zero.

    The penalty does not hold them, so that later tasks may use them at no cost. All are free before
    the first task has ended, and with `FineTuning` for ever; with `ANPyC` those that are pruned.

    Args:
        model: As for `end_task`, compiled and trained.

    Returns:
        A float from 0 to 1.

    Raises:
        TypeError: Another model.
        ValueError: A model that was never trained.

    Reference:
        Peng et al., "Overcoming Long-term Catastrophic Forgetting through Adversarial Neural
        Pruning and Synaptic Consolidation", IEEE Transactions on Neural Networks and Learning
        Systems, 2021.
    """
    check_instance("model", model, keras.Model, "a keras.Model made by resrep_keras.wrap")
    wrapper: typing.Any = find_wrapper(model.optimizer) if model.compiled else None
    words = "a compiled model wrapped with ANPyC, EWC, MAS, SynapticIntelligence or FineTuning"
    check_instance("model", wrapper, ConsolidationOptimizer, words)
    if not wrapper.built:
        raise ValueError(f"Model '{model.name}' has not been trained. Call fit() before.")
    arrays = [ops.convert_to_numpy(each.importance) for each in wrapper.held]
    return float(sum((each == 0).sum() for each in arrays) / sum(each.size for each in arrays))


def _checked(accuracies):
    """The matrix, with a number for each task that was learned."""
    array = as_array("accuracies", accuracies).astype("float64")
    words = "an array of shape (tasks learned, tasks), at least one row and no more than columns"
    if array.ndim != 2 or not 1 <= array.shape[0] <= array.shape[1]:
        raise ValueError(f"Expected accuracies to be {words}; got one of shape {array.shape}.")
    rows, columns = np.tril_indices(array.shape[0])
    missing = ~np.isfinite(array[rows, columns])
    if missing.any():
        row, column = rows[missing][0], columns[missing][0]
        raise ValueError(
            "Expected accuracies to hold a number for each task that was learned; "
            f"[{row}, {column}], on task {column} after task {row}, is {array[row, column]}."
        )
    return array
