"""Names of the logs of a run, before it has begun: what a path or a callback may ask for."""

import inspect
import re
import string

import keras

from resrep_keras.keras_adapter import compile_arguments

LIBRARIES = ("keras", "resrep_keras")


def fields_of(path):
    """The names in the placeholders of a path's last part, such as ``best-{epoch:02d}.keras``.

    Raises:
        ValueError: A placeholder that cannot be filled with a number by its name.
    """
    try:
        parts = string.Formatter().parse(path.name)
        fields = {name for _, name, _, _ in parts if name is not None}
        path.name.format(**{name: 1 if name == "epoch" else 0.5 for name in fields})
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"Expected placeholders such as {{epoch:02d}} or {{val_loss:.3f}} in the last part of "
            f"the path; got '{path.name}'. Write {{{{ and }}}} for braces of its own."
        ) from error
    return fields


def missing_names(names, model, fit_call, own=()):
    """Those of some names that no log of a run will have.

    Args:
        names: The names.
        model: A compiled model.
        fit_call: The `FitCall`; `None` where nobody knows how the run is made.
        own: Names that the method logs.

    Returns:
        A sorted list. It is empty where anything may be logged, by a training step or callback of
        the user's own.
    """
    if fit_call is None or not _all_known(model, fit_call.callbacks):
        return []
    bases = {"loss", "learning_rate", "macs_left", *own, *_metric_names(model)}

    def is_logged(name):
        rest = name.removeprefix("val_")
        known = any(re.fullmatch(rf"(.*_)?{re.escape(base)}(_\d+)?", rest) for base in bases)
        return (known and (rest == name or fit_call.validates)) or rest.endswith("_left")

    return sorted(name for name in names if name != "epoch" and not is_logged(name))


def _all_known(model, callbacks):
    """Whether training and callbacks are those of Keras and of this library."""
    kinds = [type(callback) for callback in callbacks] + [type(model)]
    own_step = type(model).train_step is not keras.Model.train_step
    return not own_step and all(kind.__module__.partition(".")[0] in LIBRARIES for kind in kinds)


def _metric_names(model):
    given = compile_arguments(model)
    settings = [given.get("metrics"), given.get("weighted_metrics")]
    for metric in keras.tree.flatten(settings):
        if isinstance(metric, str):
            yield metric
            metric = keras.metrics.get(metric)
        if inspect.isroutine(metric):
            yield metric.__name__
        elif metric is not None:
            yield metric.name
