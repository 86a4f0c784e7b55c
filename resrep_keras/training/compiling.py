"""compile_alike: a copy of a model is compiled as the model is."""

import warnings

import keras

from resrep_keras.graph.probe import in_words
from resrep_keras.keras_adapter import compile_arguments
from resrep_keras.optimizers.transfer import by_path, copy_decay_exclusions, unpruned
from resrep_keras.training.model import WrappedModel
from resrep_keras.training.own_methods import compile_objects, own_hooks


def compile_alike(model, copy, stacklevel=3):
    """Compile a copy of a model as the model itself is compiled.

    The copy has an optimizer of its own, of the settings that the model's has now, without what a
    method has put around it, and metrics of its own. Losses are the same objects. A warning says
    what cannot be copied; the copy is left uncompiled then.

    Args:
        model: A compiled model.
        copy: The copy.
        stacklevel: Of the warning.
    """
    try:
        with keras.saving.custom_object_scope(compile_objects(model)):
            if own_hooks(training_kind(model)):
                _compile_by_hooks(model, copy)
            else:
                _compile(model, copy)
    except _NotCompiled as problem:
        kind = "wrapped" if isinstance(copy, WrappedModel) else "new"
        warnings.warn(
            f"Model '{model.name}' is compiled {problem}; call compile() on the {kind} model.",
            stacklevel=stacklevel,
        )
        return
    pairs = by_path(model.trainable_variables, copy.trainable_variables)
    copy_decay_exclusions(model.optimizer, copy.optimizer, pairs)
    if copy.optimizer is not None:  # unbuilt, it would be saved as one that a file does not fit
        copy.optimizer.build(copy.trainable_variables)


class _NotCompiled(Exception):
    """A copy stays uncompiled: the text goes on from "Model is compiled"."""


def _compile_by_hooks(model, copy):
    """By methods of the user's own class, which may have a compile() of its own."""
    try:
        copy.compile_from_config(model.get_compile_config())
    except Exception as error:  # whatever such methods raise
        words = f"by methods of its own class, which raise for a copy: {in_words(error)}"
        raise _NotCompiled(words) from error


def _compile(model, copy):
    arguments = _arguments(model)
    try:
        copy.compile(**arguments)
    except (TypeError, ValueError) as error:  # what a method does not take, such as averages
        raise _NotCompiled(f"in a way that its copy refuses: {error}") from error


def _copied(copy, value):
    """A copy of an object that a model is compiled with; what it is made of may be the user's."""
    try:
        return copy(value)
    except Exception as error:  # whatever get_config() or from_config() raises
        kind = type(value).__name__
        words = f"with objects that cannot be copied: its {kind} raises {in_words(error)}"
        raise _NotCompiled(words) from error


def compile_slim(model, slim):
    """Compile a slim model as the model that it comes from, so that it can be trained on at once.

    One that is not compiled, or is trained by methods of its own class, which the slim model does
    not have, leaves the slim model as it is.
    """
    if model.compiled and not own_hooks(training_kind(model)):
        compile_alike(model, slim, stacklevel=4)


def training_kind(model):
    """The class whose methods train a model: of a wrapped one, that of the dense model."""
    if isinstance(model, WrappedModel):
        return model.training_class or keras.Model
    return type(model)


def _arguments(model):
    given = compile_arguments(model)
    return {
        **given,
        "optimizer": _copied(unpruned, model.optimizer),
        "metrics": _copies(given["metrics"]),
        "weighted_metrics": _copies(given["weighted_metrics"]),
        "run_eagerly": model.run_eagerly,
        "steps_per_execution": model.steps_per_execution,
        "jit_compile": model.jit_compile,
        "auto_scale_loss": False,  # where the loss is scaled, the optimizer does it already
    }


def _copies(metrics):
    """The same metrics with a state of their own; names and functions have none."""
    return keras.tree.map_structure(
        lambda metric: (
            _copied(lambda own: type(own).from_config(own.get_config()), metric)
            if isinstance(metric, keras.metrics.Metric)
            else metric
        ),
        metrics,
    )
