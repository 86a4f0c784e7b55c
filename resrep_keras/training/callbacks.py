"""The callbacks that `fit` of a wrapped model installs: they ask its method what to do, and log."""

import bisect
import dataclasses

import keras

from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.optimizers.wrapper import find_wrapper
from resrep_keras.training.callback_checks import refuse_averages, warn_of_unpruned_choices
from resrep_keras.training.early_removal.slimming import cut_dead, slims


class MethodCallback(keras.callbacks.Callback):
    """Tells the optimizer of a wrapped model how long the run is, and logs what the method reports.

    Enough for the methods that do their work in layers or in the optimizer; `PruningCallback` is
    for those that remove channels.

    Args:
        method: The method. Defaults to that of the model.

    Raises:
        ValueError: A model without a method, or a run of unknown length.
    """

    def __init__(self, method=None):
        super().__init__()
        self.method = method
        self.others = ()  # the callbacks beside this one, where `fit` knows them

    def set_model(self, model):
        super().set_model(model)
        if self.method is None:
            self.method = getattr(model, "method", None)
        if self.method is None:
            raise ValueError(
                f"Model '{model.name}' holds no pruning method. Expected a model made by "
                f"resrep_keras.wrap(model), or {type(self).__name__}(method)."
            )

    def on_train_begin(self, logs=None):
        refuse_averages(self.others)
        self._sync()
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._planned = False

    def on_epoch_begin(self, epoch, logs=None):
        self._sync()
        self._step = self._read_step()
        if not self._planned:
            span = self._span(epoch)
            if span is not None:
                self._planned = True
                self._begin_run(epoch, *span)

    def on_train_batch_end(self, batch, logs=None):
        self._step = self._epoch_start + batch + 1

    def on_epoch_end(self, epoch, logs=None):
        self._sync()
        optimizer = self._optimizer()
        if optimizer is not None and optimizer is not self.model.optimizer:
            # A loss scale has left out the steps that overflowed: they count for the plan.
            optimizer.steps.assign(self._step)
        self._end_epoch(epoch)
        if logs is not None:
            logs.update(self.report())

    def report(self):
        """What is logged at the end of an epoch: ``{name: number}``."""
        return self.method.logs(self.model)

    def target_met(self):
        """Whether `finalize` would meet the method's target now."""
        return self.method.target_met(self.model)

    # ------------------------------------------------------------------------------------------

    def _begin_run(self, epoch, first, last, steps):
        """Plan the run of the steps from `first` to `last`, `steps` an epoch (0 if unknown)."""

    def _end_epoch(self, epoch):
        """What is done between two epochs, before anything is logged."""

    def _optimizer(self):
        return find_wrapper(self.model.optimizer)

    def _sync(self):
        """Bring the variables up to date on backends that train on copies."""
        sync = getattr(self.model, "jax_state_sync", None)
        if sync is not None:
            sync()

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
        total = getattr(self.method, "total_steps", None)
        if total is None and not steps:
            if self._step == 0 and epochs > 1:
                return None  # the length of an epoch shows itself in the first one
            if epoch == 0:
                raise ValueError(
                    "The number of steps of this run is not known. Give fit(steps_per_epoch=...), or "
                    f"{type(self.method).__name__}(total_steps=...)."
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


class PruningCallback(MethodCallback):
    """Runs the selections of a wrapped model's method; `fit` installs one by itself.

    It logs `macs_left`, the share of the dense MACs that the keep masks leave, and the like for each
    other quantity of the target. In a custom training
    loop, drive it through a `keras.callbacks.CallbackList`.

    Args:
        method: The method. Defaults to that of the model.

    Raises:
        ValueError: The model has no compactors, or the run is too short for its target.
    """

    def on_train_begin(self, logs=None):
        if slims(self.method) and not getattr(self.model, "in_fit", False):
            raise ValueError(
                "slim_every swaps the variables of the model, which only the fit() of a model made by "
                "resrep_keras.wrap can follow. Set slim_every=None in a training loop of your own."
            )
        super().on_train_begin(logs)
        self._read_model()
        self._plan = None

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._select_at(self._step)

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution > 1, several steps end at once.
        before = self._step
        super().on_train_batch_end(batch, logs)
        if self._plan is not None:
            steps = self._plan.steps
            due = bisect.bisect_right(steps, self._step)
            if due > bisect.bisect_right(steps, before):
                self._select_at(steps[due - 1])

    def report(self):
        kept = self._channel_state.kept()
        left = {f"{limit.name}_left": limit.left(kept) for limit in self._limits}
        return {"macs_left": self.macs_left(), **left, **super().report()}

    def macs_left(self):
        """Share of the dense MACs that the keep masks leave."""
        channel_state = self._current()
        return channel_state.cost()(channel_state.kept()) / max(
            1, channel_state.baseline["dense"]["macs"]
        )

    def target_met(self):
        """Whether `finalize` would meet the target now, with no masked channel left above zero."""
        channel_state = self._current()
        dead = channel_state.dead(self.method.threshold)
        waiting = ~channel_state.kept() & ~dead & (channel_state.norms() > 0)
        return not waiting.any() and all(limit.met(~dead) for limit in self._limits)

    # ------------------------------------------------------------------------------------------

    def _read_model(self):
        self._channel_state = ChannelState(
            self.model,
            getattr(self.method, "input_shape", None),
            getattr(self.method, "exact", True),
        )
        if self._channel_state.baseline is None:  # made by hand
            self._channel_state.baseline = self.method.baseline(self.model, self._channel_state)
        self._limits = self.method.limits(self._channel_state)

    def _current(self):
        """The channel_state, read again where another callback has cut the model."""
        baseline = getattr(self.model, "baseline", None)
        if baseline is not None and baseline is not self._channel_state.baseline:
            self._read_model()
        return self._channel_state

    def _end_epoch(self, epoch):
        """Remove the dead channels from the model, where the method has it done and it pays."""
        every = getattr(self.method, "slim_every", None)
        if every is None or (epoch + 1) % every or self._plan is None:
            return
        selecting = self._step < max(self._plan.steps, default=0)
        if cut_dead(self.model, self._channel_state, self.method, selecting):
            self._read_model()

    def _begin_run(self, epoch, first, last, steps):
        self._plan = self.method.plan(first, last, steps or 1)
        if self._channel_state.compactors:
            self.method.check(self._channel_state, self._plan, last, self._optimizer())
        epochs = (self.params or {}).get("epochs", 1)
        wait = self._plan.end(last) - self._step
        pruned_from = epochs - 1 if not steps else epoch - 1 + -(-wait // steps)
        if epoch < pruned_from and not self.target_met():
            warn_of_unpruned_choices(self.others, pruned_from)

    def _select_at(self, step):
        if self._plan is not None and step in self._plan.steps and self._channel_state.compactors:
            self._sync()
            plan, late = self._plan, self._step - step
            if late and plan.forget_steps is not None:  # what is late must be forgotten sooner
                plan = dataclasses.replace(plan, forget_steps=max(1, plan.forget_steps - late))
            self.method.update(self._channel_state, self._optimizer(), plan, step)


def kind_of_callback(method):
    """The class of callback that a method's model is trained with."""
    removes = method is None or method.removes_channels
    return PruningCallback if removes else MethodCallback
