"""Training methods of one's own: a wrapped model that keeps the `train_step` of the dense one."""

import inspect
import warnings

import keras

from resrep_keras.keras_adapter import compile_arguments
from resrep_keras.optimizers.transfer import single_optimizers

# What a model may do in its own way while it is trained and evaluated.
HOOKS = (
    "compile",
    "compute_loss",
    "compute_loss_and_updates",
    "compute_metrics",
    "evaluate",
    "fit",
    "get_metrics_result",
    "make_predict_function",
    "make_test_function",
    "make_train_function",
    "metrics",
    "predict",
    "predict_step",
    "test_step",
    "train_on_batch",
    "train_step",
)


def own_hooks(kind):
    """Names of the `HOOKS` that a model class overrides."""
    return [
        name
        for name in HOOKS
        if inspect.getattr_static(kind, name, None)
        is not inspect.getattr_static(keras.Model, name, None)
    ]


def compile_objects(model):
    """Functions and classes of one's own that a model is compiled with: ``{name: object}``.

    Keras finds them by these names where it reads the compile configuration of the model.
    """
    given = keras.tree.flatten(compile_arguments(model))
    given += single_optimizers(model.optimizer)  # inside of a loss scale, say
    kinds = [value if inspect.isfunction(value) else type(value) for value in given]
    libraries = ("keras", "builtins")
    ours = [kind for kind in kinds if kind.__module__.partition(".")[0] not in libraries]
    return {kind.__name__: kind for kind in ours}


def settings_of(model):
    """What the constructor of a Functional subclass takes beside inputs, outputs and name.

    Returns:
        Keyword arguments, read from its configuration, or `None` where it cannot be made from
        `(inputs, outputs, name)` and its configuration.
    """
    signature = inspect.signature(type(model).__init__)
    try:
        config = model.get_config()
    except NotImplementedError:
        config = {}
    named = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    } - {"self", "inputs", "outputs", "name"}
    if not named <= set(config):
        return None  # what the model was made with is not known
    settings = {name: keras.saving.deserialize_keras_object(config[name]) for name in named}
    try:
        signature.bind(model, inputs=None, outputs=None, name=None, **settings)
    except TypeError:
        return None
    return settings


def find_class(name, custom_objects=None):
    """The class that is registered by a name.

    Raises:
        TypeError: There is none.
    """
    kind = keras.saving.get_registered_object(name, custom_objects=custom_objects)
    if kind is None:
        raise TypeError(
            f"The wrapped model trains by the methods of a class '{name}', which is not known "
            "here. Decorate it with @keras.saving.register_keras_serializable() and import it "
            "before loading, or pass it in custom_objects."
        )
    return kind


def warn_of_lost(model, hooks):
    """Say that a wrapped model will be trained as Keras does."""
    kind = type(model).__name__
    warnings.warn(
        f"Model '{model.name}' is a {kind}, whose own {', '.join(hooks)} the wrapped model cannot "
        f"have, because {kind} is not made from (inputs, outputs, name) and what its get_config() "
        "holds: it will train like a plain keras.Model. Put these methods into a subclass of "
        "keras.Model without another constructor, `class Training(keras.Model)`, and wrap "
        "`Training(inputs, model(inputs))`; or write the training loop yourself, with "
        "PenaltyOptimizer and PruningCallback.",
        stacklevel=4,
    )
