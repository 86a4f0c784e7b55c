"""How far the outputs of a model are from those of its teacher, by the heads of both."""

import dataclasses

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.last_activation import LastActivation
from resrep_keras.keras_adapter import compile_arguments

SOFTMAX, SIGMOID = keras.activations.softmax, keras.activations.sigmoid
TINY = float(np.finfo(np.float32).tiny)
OF_TWO = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)


@dataclasses.dataclass(frozen=True)
class Head:
    """What stands at an output.

    Args:
        student, teacher: `LastActivation` of both models.
    """

    student: LastActivation
    teacher: LastActivation


class OfClasses(keras.losses.Loss):
    """Kullback-Leibler divergence of softmaxes, that of the teacher first.

    Args:
        temperature: What logits are divided by.
        head: The `Head`.
    """

    def __init__(self, temperature, head):
        super().__init__(name="divergence_of_classes")
        self._temperature, self._head = temperature, head

    def call(self, y_true, y_pred):
        teacher, student = (
            ops.log_softmax(_logits(values, last) / self._temperature)
            for values, last in ((y_true, self._head.teacher), (y_pred, self._head.student))
        )
        return self._temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


class OfEachAlone(OfClasses):
    """The same of each unit against its complement, mean over units: of sigmoids."""

    def call(self, y_true, y_pred):
        teacher, student = (
            _logits(values, last) / self._temperature
            for values, last in ((y_true, self._head.teacher), (y_pred, self._head.student))
        )
        sides = (
            ops.sigmoid(sign * teacher)
            * (ops.log_sigmoid(sign * teacher) - ops.log_sigmoid(sign * student))
            for sign in (1.0, -1.0)
        )
        return self._temperature**2 * ops.mean(sum(sides), axis=-1)


def _logits(values, last):
    """What stands before a softmax or sigmoid, up to what these do not tell."""
    if last.function is SOFTMAX:
        return ops.moveaxis(ops.log(ops.maximum(values, TINY)), last.axis, -1)
    if last.function is SIGMOID:
        return ops.log(ops.maximum(values, TINY)) - ops.log(ops.maximum(1.0 - values, TINY))
    return values


def loss_of_head(head, loss, temperature):
    """The `keras.losses.Loss` of a teacher's and a student's output.

    Args:
        head: The `Head`.
        loss: What the output is compiled with; `None` where that is not known.
        temperature: See `Distillation`.

    Raises:
        ValueError: One of both has probabilities, and nothing says that the other has its logits.
    """
    student, teacher = head.student.function, head.teacher.function
    known = {SOFTMAX: OfClasses, SIGMOID: OfEachAlone}
    kind = known.get(student)
    if kind is None and student is None and _from_logits(loss):
        kind = OfEachAlone if isinstance(loss, OF_TWO) else OfClasses
    fitting = (None, SOFTMAX if kind is OfClasses else SIGMOID)
    if kind is not None and teacher in fitting:
        return kind(temperature, head)
    if kind is None and teacher not in known:
        return keras.losses.MeanSquaredError(name="divergence_of_values")
    raise ValueError(
        f"The teacher's outputs end in {_words(teacher)}, those of the model in {_words(student)}, "
        "and its loss does not say that both are about the same classes. Expected a teacher with "
        "the head of the model, or a model that is compiled with from_logits=True; or say what is "
        "compared: Distillation(teacher, loss=...)."
    )


def _words(function):
    return "no activation" if function is None else getattr(function, "__name__", str(function))


def _from_logits(loss):
    return isinstance(loss, keras.losses.Loss) and bool(loss.get_config().get("from_logits"))


def divergence(heads, model, told, y_pred, sample_weight, temperature):
    """How far all outputs are from those of the teacher, by the weights of their losses.

    Args:
        heads: The `Head`s of the outputs.
        model: The compiled student.
        told, y_pred: Outputs of teacher and student.
        sample_weight: That of the loss; one for all outputs, or one for each.
        temperature: See `Distillation`.
    """
    outputs = [keras.tree.flatten(each) for each in (told, y_pred)]
    if {len(each) for each in outputs} != {len(heads)}:
        raise ValueError(
            f"Model '{model.name}' has {len(heads)} outputs, of which a step makes "
            f"{len(outputs[1])}: it cannot learn from a teacher."
        )
    given = compile_arguments(model) if model.compiled else {}
    losses = by_output(model, given.get("loss"))
    weights = by_output(model, given.get("loss_weights"))
    examples = by_output(model, sample_weight)
    total = 0.0
    for head, teacher, student, loss, weight, each in zip(
        heads, *outputs, losses, weights, examples
    ):
        if loss is None and any(other is not None for other in losses):
            continue  # not trained either
        found = loss_of_head(head, loss, temperature)(teacher, student, sample_weight=each)
        total = total + (1.0 if weight is None else weight) * found
    return total


def by_output(model, given):
    """What is given for each output of a model: in its structure, by name, or one for all."""
    number = len(model.outputs)
    if isinstance(given, dict):
        keys = model.output_names
        if isinstance(model.output, dict):
            keys = sorted(model.output)  # as Keras orders them
        return [given.get(key, given.get(name)) for key, name in zip(keys, model.output_names)]
    flat = keras.tree.flatten(given)
    return flat if len(flat) == number else flat * number
