"""EarlyRemoval: what a wrapped model remembers, so that a narrower one can take its place."""

import keras
from keras import ops

from resrep_keras.keras_adapter import deep_models, freeze_alone, trains_on_copies
from resrep_keras.training.early_removal.callback import EarlyRemovalCallback
from resrep_keras.training.early_removal.checks import check_run


class EarlyRemoval:
    """The member `early_removal` of a `WrappedModel` whose method has `slim_every`.

    It is told how the model is made, compiled and what its loss is computed of, and makes a model
    of fewer channels the same way.

    Args:
        settings: What the class of the model takes in its constructor beside what `WrappedModel`
            does.
    """

    def __init__(self, settings):
        self._settings = settings
        self._compiled_with = (), {}
        self._loss_specs = None

    def note_compile(self, args, kwargs):
        """Note what the model is compiled with beside its optimizer."""
        self._compiled_with = args, kwargs

    def note_loss(self, y, y_pred, sample_weight):
        """Note shapes and dtypes of what the loss is computed of."""
        self._loss_specs = keras.tree.map_structure(_spec, (y, y_pred, sample_weight))

    def join(self, model, callbacks, pruning):
        """The callbacks of a run with the one that removes channels, right behind `pruning`.

        Raises:
            ValueError: The run cannot be one in which channels are removed.
        """
        check_run(model, callbacks)
        # A list of callbacks that was given to an earlier `fit` may hold one still.
        callbacks = [c for c in callbacks if not isinstance(c, EarlyRemovalCallback)]
        position = callbacks.index(pruning) + 1
        own = EarlyRemovalCallback(pruning)
        return [*callbacks[:position], own, *callbacks[position:]]

    def narrower(self, model, graph, baseline):
        """A wrapped model like `model`, of fewer channels and not compiled yet.

        Args:
            model: The wrapped model.
            graph: A Functional model, whose graph and weights the new one has.
            baseline: What the new one notes of the dense model.
        """
        with deep_models():
            made = type(model)(
                graph.input,
                graph.output,
                name=model.name,
                method=model.method,
                baseline=baseline,
                **self._settings,
            )
        if not model.trainable:
            freeze_alone(made)
        made.dtype_policy = model.dtype_policy
        made.early_removal = self
        made.distilled = model.distilled
        return made

    def compile(self, model, optimizer):
        """Compile a model with an optimizer, and all else as it was."""
        args, kwargs = self._compiled_with
        model.compile(optimizer, *args, **kwargs)

    def prepare(self, model):
        """Make a model ready for the next step of a `fit` that runs already."""
        if trains_on_copies(model) and self._loss_specs is not None:
            self._build_metrics(model)
        model.make_train_function(force=True)

    def _build_metrics(self, model):
        """Make the variables of losses and metrics, which `fit` does once where it starts."""
        y, y_pred, sample_weight = keras.tree.map_structure(_zeros, self._loss_specs)
        given = {"y": y, "y_pred": y_pred, "sample_weight": sample_weight}
        model.compute_loss(x=None, training=False, **given)  # without its teacher
        model.compute_metrics(x=None, **given)
        model.reset_metrics()


def _spec(value):
    """Shape and dtype of a tensor, `None` for `None`."""
    if value is None:
        return None
    return keras.KerasTensor(tuple(value.shape), dtype=keras.backend.standardize_dtype(value.dtype))


def _zeros(spec):
    """An array for a spec, unknown sizes 1."""
    return None if spec is None else ops.zeros([n or 1 for n in spec.shape], dtype=spec.dtype)
