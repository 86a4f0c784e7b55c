"""How important each weight is for a task: gradients of what a model answers."""

import dataclasses

import keras
import numpy as np
from keras import ops

from resrep_keras.common.gradients import gradients_of
from resrep_keras.graph.last_activation import last_activations
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.consolidation.outputs import current_task, view_of
from resrep_keras.methods.wrapped import notes_of

# The smallest normal float32: below it, backends count as they like.
TINY = float(np.finfo(np.float32).tiny)


def mean_over(data, size, function, contribution, model, variables, most=None):
    """The mean over batches of what the gradients by some variables contribute.

    Args:
        data: A `TaskData`.
        size: Examples of a batch.
        function: ``function(outputs, labels)`` returns a scalar for the outputs of the current task
            in inference: dropout is off.
        contribution: ``contribution(gradient, weights)`` of one batch.
        model: The wrapped model.
        variables: The variables.
        most: How many examples are looked at. Defaults to all.

    Returns:
        A list of tensors.
    """
    compute = _gradients(view_of(model, current_task(model)), function, variables)
    sums, number = [0.0] * len(variables), 0
    for inputs, labels in data.batches(size, most):
        found = compute(inputs, labels)
        sums = [
            total + contribution(ops.cast(gradient, "float32"), ops.cast(variable, "float32"))
            for total, gradient, variable in zip(sums, found, variables)
        ]
        number += 1
    return [total / number for total in sums]


def _gradients(view, function, variables):
    """The gradients of what `function` makes of the outputs; compiled once for all stages."""
    key, known = [id(variable) for variable in variables], notes_of(view).get("gradients")
    if known is None or known[0] != key:

        def of_batch(inputs, labels):
            return function(view.call(inputs, training=False), labels)

        others = [variable for variable in view.variables if id(variable) not in set(key)]
        known = notes_of(view)["gradients"] = key, gradients_of(of_batch, variables, others)
    return known[1]


# --- probabilities --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Classes:
    """What the numbers of a head mean.

    Args:
        from_logits: Whether they are logits, and not probabilities.
        exclusive: Whether they are those of classes of which one holds, and not each by itself.
    """

    from_logits: bool
    exclusive: bool

    def log_probabilities(self, outputs):
        """The logarithms of the probabilities that hold and that do not, or `None` for the latter.

        They are finite: what underflows counts as the smallest number.
        """
        outputs = ops.cast(outputs, "float32")
        if self.exclusive:
            return (ops.log_softmax(outputs) if self.from_logits else _log(outputs)), None
        if self.from_logits:
            return ops.log_sigmoid(outputs), ops.log_sigmoid(-outputs)
        return _log(outputs), _log(1 - outputs)

    def entropy(self, outputs):
        """The sum of the entropies of all answers."""
        return -sum(ops.sum(ops.exp(logs) * logs) for logs in self._logs(outputs))

    def log_likelihood(self, outputs, labels):
        """The sum of the logarithms of the probabilities of the labels."""
        holds, holds_not = self.log_probabilities(outputs)
        one_each = len(labels.shape) == len(holds.shape) and labels.shape[-1] == holds.shape[-1]
        if self.exclusive and not one_each:
            labels = ops.one_hot(ops.reshape(labels, ops.shape(holds)[:-1]), holds.shape[-1])
        labels = ops.cast(ops.reshape(labels, ops.shape(holds)), "float32")
        total = ops.sum(labels * holds)
        return total if holds_not is None else total + ops.sum((1 - labels) * holds_not)

    def _logs(self, outputs):
        return [logs for logs in self.log_probabilities(outputs) if logs is not None]


def _log(probabilities):
    return ops.log(ops.maximum(probabilities, TINY))


def classes_of(model, from_logits=None):
    """The `Classes` of the current head of a model.

    A head that ends in a softmax or sigmoid has probabilities. Any other has logits: of classes of
    which one holds, or, where it is a single number, of one class.

    Args:
        model: The wrapped model.
        from_logits: What its outputs are, where that is known better.
    """
    view = view_of(model, current_task(model))
    activation, single = (
        last_activations(recording_of(view))[0].function,
        view.output_shape[-1] == 1,
    )
    if from_logits is None:
        from_logits = activation not in (keras.activations.softmax, keras.activations.sigmoid)
    return Classes(from_logits, activation is not keras.activations.sigmoid and not single)
