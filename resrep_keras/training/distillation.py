"""Distillation: a wrapped model learns from the outputs of a teacher, too."""

import dataclasses
import warnings

import keras
from keras import ops

from resrep_keras.common.checks import check_instance, check_number, check_settings, setting
from resrep_keras.graph.last_activation import last_activations
from resrep_keras.graph.recording import specs_told
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import check_model
from resrep_keras.training.divergences import SIGMOID, SOFTMAX, Head, divergence


def _check_loss(name, value):
    words = "an object of keras.distillation.DistillationLoss, or None"
    return check_instance(name, value, (keras.distillation.DistillationLoss, type(None)), words)


def _check_teacher(name, value):
    words = "a keras.Model that is trained"
    return check_instance(name, value, (keras.Model, type(None)), words)


@dataclasses.dataclass(eq=False)
class Distillation:
    """What a wrapped model learns from a teacher, the dense model above all, while it is pruned.

    Each step adds to the loss how far the outputs are from those of the teacher for the same
    inputs, the teacher being called in inference:

    ```
    loss = loss of the labels + weight * divergence(teacher(x), outputs)
    ```

    What the divergence is depends on the head of each output. Behind a softmax, or for logits, as
    `from_logits=True` of the compiled loss says, it is the Kullback-Leibler divergence between both
    softmaxes at a `temperature`, times the temperature squared; for sigmoids and their logits the
    same of each alone; for all else the mean squared difference. Sample weights, masks and loss
    weights count as in the loss. Outputs that are compiled without a loss are left out. In
    `evaluate` and validation the loss is that of the labels alone.

    Args:
        teacher: A trained `keras.Model` that takes the same inputs and makes outputs of the same
            structure and shapes. It is not changed, and no part of the model: it is neither
            counted nor saved with it.
        weight: Weight of the divergence, above 0. Hinton's `(1 - a) * labels + a * divergence` is
            `weight = a / (1 - a)` at `1 - a` times the learning rate. Defaults to `1.0`.
        temperature: Above 0; the higher, the more the classes count that the teacher does not
            choose. Defaults to `3.0`.
        loss: What to use instead of these divergences, of all outputs in their structure: a
            `keras.distillation.DistillationLoss`, such as one of your own, computed of objects of
            `keras.losses`, which count for each replica what is its share. Sample weights do not
            reach it. Defaults to `None`.

    Raises:
        TypeError, ValueError: A setting of another kind, or out of range.

    Example:

    >>> distillation = resrep_keras.Distillation(dense, weight=2.0, temperature=4.0)
    >>> model = resrep_keras.wrap(dense, resrep_keras.ResRep(0.7), teacher=distillation)

    Reference:
        Hinton et al., 2015: Distilling the knowledge in a neural network.
    """

    teacher: keras.Model | None = setting(None, _check_teacher)
    weight: float = setting(1.0, check_number, above=0)
    temperature: float = setting(3.0, check_number, above=0)
    loss: object = setting(None, _check_loss)

    def __post_init__(self):
        check_settings(self)

    def get_config(self):
        """The settings without the teacher."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"weight": self.weight, "temperature": self.temperature, "loss": loss}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        loss = keras.saving.deserialize_keras_object(config["loss"], custom_objects=custom_objects)
        return cls(**{**config, "loss": loss})


class Distilled:
    """What a wrapped model adds to its loss.

    Args:
        settings: A `Distillation`.
        heads: The `Head` of each output; `None` with a loss of the user's own.
    """

    def __init__(self, settings, heads=None):
        self.settings, self._heads, self._asked = settings, heads, False

    def check(self, name):
        """Raise where there is no teacher.

        Raises:
            ValueError: The model was loaded, and no teacher set since.
        """
        if self.settings.teacher is None:
            raise ValueError(
                f"Model '{name}' learns from a teacher, which is not saved with it. Call "
                "model.set_teacher(teacher) before you train it, or model.set_teacher(None) to go "
                "on without."
            )

    def warn_unless_asked(self, model):
        """Tell of a run that did not ask for the loss."""
        if not self._asked:
            warnings.warn(
                f"Model '{model.name}' did not learn from its teacher: its own train_step never "
                "called self.compute_loss(x, y, y_pred, sample_weight), which adds what the "
                "teacher says.",
                stacklevel=4,
            )

    def loss(self, model, x, y_pred, sample_weight):
        """What is added to the loss of a step.

        Raises:
            ValueError: There is no teacher, or nothing that it could read.
        """
        self.check(model.name)
        self._asked = True
        if x is None:
            raise ValueError(
                f"compute_loss() of model '{model.name}' was called without x, which its teacher "
                "reads. Call self.compute_loss(x, y, y_pred, sample_weight) in a train_step of "
                "your own."
            )
        told = self.settings.teacher(x, training=False)
        told = keras.tree.map_structure(ops.stop_gradient, told)
        if self.settings.loss is not None:
            found = self.settings.loss.compute_loss(told, y_pred)
        else:
            given = model, told, y_pred, sample_weight, self.settings.temperature
            found = divergence(self._heads, *given)
        return self.settings.weight * found


def taught_by(model, teacher):
    """The `Distilled` of a wrapped model and a teacher that fits it.

    Args:
        model: The wrapped model.
        teacher: A `keras.Model`, or a `Distillation`.

    Raises:
        TypeError: Neither.
        ValueError: A teacher of other inputs or outputs, or a loss that takes other ones.
    """
    words = "a trained keras.Model or a resrep_keras.Distillation"
    check_instance("teacher", teacher, (keras.Model, Distillation), words)
    settings = teacher if isinstance(teacher, Distillation) else Distillation(teacher)
    teacher = settings.teacher
    if teacher is None:
        raise ValueError("Expected a Distillation with a teacher; got one without.")
    check_model(teacher, "teacher")
    if teacher is model:
        raise ValueError(f"Expected a teacher other than the model '{model.name}' itself.")
    _check_outputs(model, teacher)
    if settings.loss is not None:
        _check_loss_fits(settings.loss, model, teacher)
        return Distilled(settings)
    heads = zip(last_activations(recording_of(model)), _heads_of_teacher(teacher))
    return Distilled(settings, [Head(*pair) for pair in heads])


def _heads_of_teacher(teacher):
    try:
        return last_activations(recording_of(teacher))
    except ValueError as error:
        raise ValueError(
            f"What the outputs of teacher '{teacher.name}' are cannot be read ({error}) Say what "
            "is compared: Distillation(teacher, loss=keras.distillation.LogitsDistillation()), say."
        ) from error


def _check_outputs(model, teacher):
    """Raise where a teacher does not take the inputs of a model, or makes other outputs."""
    try:
        told = specs_told(teacher, (model.input,), {})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Teacher '{teacher.name}' does not take the inputs of model '{model.name}': {error}"
        ) from error
    found = [_described(told), _described(model.output)]
    same = keras.tree.map_structure(lambda tensor: 0, told) == keras.tree.map_structure(
        lambda tensor: 0, model.output
    )
    pairs = zip(keras.tree.flatten(told), keras.tree.flatten(model.output))
    if not same or any(_differ(one.shape, other.shape) for one, other in pairs):
        raise ValueError(
            f"Teacher '{teacher.name}' makes outputs {found[0]}, model '{model.name}' {found[1]}. "
            "Expected a teacher with outputs of the same structure and shapes."
        )
    names = _names_of(teacher), _names_of(model)
    shared = set(names[0]) & set(names[1])
    if any(names[0].index(name) != names[1].index(name) for name in shared):
        raise ValueError(
            f"Teacher '{teacher.name}' makes its outputs in the order {', '.join(names[0])}, model "
            f"'{model.name}' in the order {', '.join(names[1])}. Expected one order."
        )


def _names_of(model):
    return list(getattr(model, "output_names", None) or ())


def _described(outputs):
    return keras.tree.map_structure(lambda tensor: str(tuple(tensor.shape)), outputs)


def _differ(shape, other):
    sizes = zip(shape, other)
    return len(shape) != len(other) or any(None not in pair and len({*pair}) > 1 for pair in sizes)


def _check_loss_fits(loss, model, teacher):
    """Raise where a loss of Keras would take outputs for what they are not."""
    kind = type(loss).__name__
    layers = getattr(loss, "teacher_layer_name", None), getattr(loss, "student_layer_name", None)
    if any(layers):
        raise ValueError(
            f"{kind} compares layers {layers[0]!r} and {layers[1]!r}; here only outputs are there. "
            "Train keras.distillation.Distiller(teacher, model, losses) instead, compiled with "
            "model.method.optimizer(optimizer, model), with model.method.callback() in fit."
        )
    loss.validate_model_compatibility(teacher, model)
    if isinstance(loss, keras.distillation.LogitsDistillation):
        found = [last.function for last in last_activations(recording_of(model))]
        if SOFTMAX in found or SIGMOID in found:
            raise ValueError(
                f"LogitsDistillation takes logits, and outputs of model '{model.name}' end in a "
                "softmax or sigmoid. Leave loss out: Distillation(teacher, temperature="
                f"{loss.temperature})."
            )
