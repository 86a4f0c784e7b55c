"""MethodCallback: it asks a wrapped model's method what to do while `fit` runs, and logs."""

import contextlib
import dataclasses

import keras

from resrep_keras.common.checks import check_instance
from resrep_keras.keras_adapter import sync_state
from resrep_keras.methods.callback_checks import refuse_averages, refuse_early_removal
from resrep_keras.methods.divergence import check_finite
from resrep_keras.methods.pruning_log import PruningLog, keep_log, log_of
from resrep_keras.methods.wrapped import method_of
from resrep_keras.optimizers.wrapper import find_wrapper


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What `fit` trains on, as it was given.

    Args:
        x: Arrays, or a dataset, `PyDataset` or generator of batches.
        y, sample_weight: Arrays; `None` where `x` brings them, or there are none.
    """

    x: object = None
    y: object = None
    sample_weight: object = None


@dataclasses.dataclass(frozen=True)
class FitCall:
    """What `fit` of a wrapped model tells the callbacks of this library.

    Args:
        callbacks: All callbacks of the run, in their order.
        data: The `TrainingData`.
        validates: Whether it is given data, or a share of them, to validate on.
    """

    callbacks: tuple
    data: TrainingData
    validates: bool = True


class InFit:
    """Mixin of the callbacks that `fit` of a wrapped model tells of itself."""

    fit_call = None  # the FitCall, while it runs


@contextlib.contextmanager
def told_of_fit(callbacks, data, validates=True):
    """Tell the callbacks that want to know of the `fit` that runs inside of this context."""
    told = [callback for callback in callbacks if isinstance(callback, InFit)]
    for callback in told:
        callback.fit_call = FitCall(tuple(callbacks), data, validates)
    try:
        yield
    finally:
        for callback in told:
            callback.fit_call = None


class MethodCallback(InFit, keras.callbacks.Callback):
    """Tells the optimizer of a wrapped model how long the run is, and logs what the method reports.

    Enough for the methods that do their work in layers or in the optimizer; `PruningCallback` is
    for those that remove channels.

    The wrapped model may stand inside of the one that trains, whose optimizer is that of the method
    then: `outer.compile(wrapped.method.optimizer(keras.optimizers.Adam(), wrapped), loss)`.

    Args:
        method: The method. Defaults to that of the model.

    Attributes:
        pruned: The wrapped model: the one that trains, or one inside of it.

    Raises:
        ValueError: A model without a method, or a run of unknown length.
    """

    def __init__(self, method=None):
        super().__init__()
        self.method = method
        self.pruned = None

    def set_model(self, model):
        super().set_model(check_instance("model", model, keras.Model, "a keras.Model"))
        self.pruned = next(wrapped_in(model), model)
        if self.method is None:
            self.method = method_of(self.pruned)
        if self.method is None:
            raise ValueError(
                f"Model '{model.name}' holds no pruning method. Expected a model made by "
                f"resrep_keras.wrap(model), or {type(self).__name__}(method)."
            )

    def on_train_begin(self, logs=None):
        refuse_averages(self._callbacks())
        if self.fit_call is None:
            refuse_early_removal(self.method)
        sync_state(self.model)
        if not self.model.optimizer.built:
            if self._optimizer() is not None and not self.model.trainable_variables:
                raise ValueError(
                    f"All weights of model '{self.model.name}' are frozen (trainable=False), so "
                    "that nothing can be trained or pruned. Set model.trainable = True and compile "
                    "it again, or freeze layers of the dense model before wrap()."
                )
            self.model.optimizer.build(self.model.trainable_variables)
        self._planned = False

    def on_epoch_begin(self, epoch, logs=None):
        sync_state(self.model)
        self._step = self._read_step()
        if not self._planned and self._plans():
            span = self._span(epoch)
            if span is not None:
                self._planned = True
                self._begin_run(epoch, *span)

    def on_train_batch_end(self, batch, logs=None):
        self._step = self._epoch_start + batch + 1

    def on_epoch_end(self, epoch, logs=None):
        sync_state(self.model)
        optimizer = self._optimizer()
        if optimizer is not None and optimizer is not self.model.optimizer:
            # A loss scale has left out the steps that overflowed: they count for the plan.
            optimizer.steps.assign(self._step)
        # Keras sets the attribute in fit: a training loop of one's own has none.
        stopped = vars(self.model).get("stop_training", False)  # as by TerminateOnNaN
        if optimizer is not None and not stopped:
            check_finite(self.model, self._step)
        told = self.report()
        if logs is not None:
            logs.update(told)
        self._note(epoch + 1, {**(logs or {}), **told})

    def on_train_end(self, logs=None):
        sync_state(self.model)
        data = None if self.fit_call is None else self.fit_call.data
        self.method.end_of_run(self.pruned, data)

    def report(self):
        """What is logged at the end of an epoch: ``{name: number}``."""
        return self.method.logs(self.pruned)

    def target_met(self):
        """Whether `finalize` would meet the method's target now."""
        return self.method.target_met(self.pruned)

    # ------------------------------------------------------------------------------------------

    def _note(self, epoch, values):
        """Note this moment in the `PruningLog` of the model."""
        log = log_of(self.pruned)
        if log is None:
            log = keep_log(self.pruned, PruningLog())
        log.add(self._step, epoch, values, self._norms())

    def _norms(self):
        """The `Norms` of compactors, if there are any."""
        return None

    def _plans(self):
        """Whether anybody has to know how long the run is."""
        return self._optimizer() is not None

    def _begin_run(self, epoch, first, last, steps):
        """Plan the run of the steps from `first` to `last`, `steps` an epoch (0 if unknown)."""
        self.method.check_run(first, last)

    def _callbacks(self):
        """The callbacks of the run, as far as they are known."""
        return () if self.fit_call is None else self.fit_call.callbacks

    def _optimizer(self):
        return find_wrapper(self.model.optimizer)

    def _read_step(self):
        optimizer = self._optimizer()
        counter = self.model.optimizer.iterations if optimizer is None else optimizer.steps
        step = int(keras.ops.convert_to_numpy(counter))
        self._epoch_start = step
        return step

    def _span(self, epoch):
        """`(first step, last step, steps of an epoch)` once it is known; a begun run goes on."""
        steps = (self.params or {}).get("steps")
        epochs = (self.params or {}).get("epochs", 1)
        total = self.method.total_steps
        if total is None and not steps:
            if self._step == 0 and epochs > 1:
                return None  # the length of an epoch shows itself in the first one
            if epoch == 0:
                raise ValueError(
                    "The number of steps of this run is not known. Give fit(steps_per_epoch=...), "
                    f"or {type(self.method).__name__}(total_steps=...)."
                )
            steps = max(1, self._step // epoch)
        first, last = self._step, self._step + (epochs - epoch) * (steps or 0)
        if total is not None:
            first, last = 0, total
        optimizer = self._optimizer()
        if optimizer is not None:
            begun, ends = (int(n) for n in keras.ops.convert_to_numpy(optimizer.plan))
            if begun <= self._step < ends:
                first, last = begun, ends
            else:
                optimizer.plan.assign([first, last])
        return first, last, steps or 0


def wrapped_in(model):
    """The wrapped models that a model is, or has among its layers."""
    if method_of(model) is not None:
        yield model
    elif isinstance(model, keras.Model):
        for layer in model.layers:
            yield from wrapped_in(layer)
