"""wrap: a copy of a model with compactors, ready to be trained and pruned at once."""

import keras

from resrep_keras.graph.unroll import check_model
from resrep_keras.keras_adapter import (
    deep_models,
    freeze_alone,
    is_functional,
    strategy_scope,
    training_class,
)
from resrep_keras.methods.agreement import check_copy
from resrep_keras.methods.channels.resrep import ResRep
from resrep_keras.methods.method import Method, check_method, check_savable
from resrep_keras.methods.wrapped import method_of
from resrep_keras.training.compiling import compile_alike
from resrep_keras.training.distillation import Distillation
from resrep_keras.training.model import WrappedModel
from resrep_keras.training.own_methods import own_hooks, settings_of, warn_of_lost


def wrap(
    model: keras.Model,
    method: Method | None = None,
    teacher: keras.Model | Distillation | None = None,
) -> WrappedModel:
    """Copy a model with compactors, ready to be trained and pruned at once.

    The copy computes the same outputs. Where `model` is compiled, the copy is compiled alike, with
    the optimizer wrapped; compile it with any Keras optimizer otherwise, and call `fit`. A
    `train_step` or `compute_loss` of the model's own class is kept where that class is made from
    `(inputs, outputs)`, with what its `get_config` says; a warning tells where it is not.

    Args:
        model: Built Functional or Sequential `keras.Model`; it is left as it is. The copy is made
            in the same `tf.distribute` strategy.
        method: A method such as `ResRep(...)`. Defaults to `ResRep()`, which removes half of the
            MACs.
        teacher: A trained `keras.Model`, `model` itself above all, whose outputs the copy learns
            from beside the labels, or a `Distillation`, which says how. Defaults to none.

    Returns:
        A `keras.Model`.

    Raises:
        TypeError: `model` or `teacher` is not a Keras model, or `method` not a method.
        UnreachableTarget: A `ValueError`: the target is out of reach; the text names the largest
            that is not. See `resrep_keras.costs.budget`.
        ValueError: The model is wrapped already, or has no graph or nothing to prune; or its copy
            computes something else on random inputs. Names the first layer where the two part.
            Or the teacher has other inputs or outputs.

    Example:

    >>> model = resrep_keras.wrap(dense)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> history = model.fit(x, y, epochs=20)
    >>> slim = resrep_keras.finalize(model)
    """
    method = ResRep() if method is None else method
    check_method("method", method)
    check_model(model)
    check_savable(method)
    if method_of(model) is not None:
        raise ValueError(
            f"Model '{model.name}' is wrapped already. Train it, or finalize it before wrapping it "
            "again."
        )
    with strategy_scope(model):
        copy, baseline = method.insert(model)
        kind, settings = _kind_of_wrapped(model)
        with deep_models():
            wrapped = kind(
                copy.input,
                copy.output,
                name=model.name,
                method=method,
                baseline=baseline,
                **settings,
            )
        if not model.trainable:
            freeze_alone(wrapped)
        wrapped.dtype_policy = model.dtype_policy  # by which compile() scales the loss
        check_copy(model, wrapped, method.input_shape)
        if model.compiled:
            compile_alike(model, wrapped)
        if teacher is not None:
            wrapped.set_teacher(teacher)
    return wrapped


def _kind_of_wrapped(model):
    """The class of the wrapped model, and what its constructor takes from the dense one."""
    hooks = own_hooks(type(model))
    settings = settings_of(model) if hooks and is_functional(model) else None
    if settings is not None:
        return training_class(WrappedModel, type(model)), settings
    if hooks:
        warn_of_lost(model, hooks)
    return WrappedModel, {}
