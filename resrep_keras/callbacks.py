"""PruningCallback: asks the method for new keep masks while `fit` runs."""

import dataclasses

import keras

from resrep_keras.callback_checks import refuse_averages, warn_of_unpruned_choices
from resrep_keras.methods.compaction import Compaction
from resrep_keras.optimizers.penalty import PenaltyOptimizer
from resrep_keras.slimming import cut_dead, slims


def find_penalty_optimizer(optimizer):
    """The `PenaltyOptimizer` in a chain of wrappers (loss scaling, say), or `None`."""
    while optimizer is not None and not isinstance(optimizer, PenaltyOptimizer):
        optimizer = getattr(optimizer, "inner_optimizer", None)
    return optimizer


class PruningCallback(keras.callbacks.Callback):
    """Runs the selections of a wrapped model's method; `fit` installs one by itself.

    It logs `macs_left`, the share of the dense MACs that the keep masks leave, and the like for each
    other quantity of the target. In a custom training
    loop, drive it through a `keras.callbacks.CallbackList`.

    Args:
        method: The method. Defaults to that of the model.

    Raises:
        ValueError: The model has no compactors, or the run is too short for its target.
    """

    def __init__(self, method=None):
        super().__init__()
        self.method = method
        self.others = ()  # the callbacks beside this one, where `fit` knows them
        self._compaction = None

    def set_model(self, model):
        super().set_model(model)
        if self.method is None:
            self.method = getattr(model, "method", None)
        if self.method is None:
            raise ValueError(
                f"Model '{model.name}' holds no pruning method. Expected a model made by "
                "resrep_keras.wrap(model), or PruningCallback(method)."
            )

    def on_train_begin(self, logs=None):
        refuse_averages(self.others)
        if slims(self.method) and not getattr(self.model, "in_fit", False):
            raise ValueError(
                "slim_every swaps the variables of the model, which only the fit() of a model made by "
                "resrep_keras.wrap can follow. Set slim_every=None in a training loop of your own."
            )
        self._sync()
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._read_model()
        self._plan = None

    def on_epoch_begin(self, epoch, logs=None):
        self._sync()
        self._step = self._read_step()
        if self._plan is None:
            self._make_plan(epoch)
        self._select_at(self._step)

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution > 1, several steps end at once.
        before, self._step = self._step, self._epoch_step(batch)
        if self._plan is not None:
            due = [step for step in self._plan.steps if before < step <= self._step]
            if due:
                self._select_at(due[-1])

    def on_epoch_end(self, epoch, logs=None):
        self._sync()
        optimizer = self._optimizer()
        if optimizer is not None and optimizer is not self.model.optimizer:
            # A loss scale has left out the steps that overflowed: they count for the plan.
            optimizer.steps.assign(self._step)
        self._slim(epoch)
        if logs is not None:
            logs["macs_left"] = self.macs_left()
            kept = self._compaction.kept()
            logs.update({f"{limit.name}_left": limit.left(kept) for limit in self._limits})

    def macs_left(self):
        """Share of the dense MACs that the keep masks leave."""
        compaction = self._current()
        return compaction.cost()(compaction.kept()) / max(1, compaction.baseline["dense"]["macs"])

    def target_met(self):
        """Whether `finalize` would meet the target now, with no masked channel left above zero."""
        compaction = self._current()
        dead = compaction.dead(self.method.threshold)
        waiting = ~compaction.kept() & ~dead & (compaction.norms() > 0)
        return not waiting.any() and all(limit.met(~dead) for limit in self._limits)

    # ------------------------------------------------------------------------------------------

    def _read_model(self):
        self._compaction = Compaction(
            self.model,
            getattr(self.method, "input_shape", None),
            getattr(self.method, "exact", True),
        )
        if self._compaction.baseline is None:  # made by hand
            self._compaction.baseline = self.method.baseline(self.model, self._compaction)
        self._limits = self.method.limits(self._compaction)

    def _current(self):
        """The compaction, read again where another callback has cut the model."""
        baseline = getattr(self.model, "baseline", None)
        if baseline is not None and baseline is not self._compaction.baseline:
            self._read_model()
        return self._compaction

    def _slim(self, epoch):
        """Remove the dead channels from the model, where the method has it done and it pays."""
        every = getattr(self.method, "slim_every", None)
        if every is None or (epoch + 1) % every or self._plan is None:
            return
        selecting = self._step < max(self._plan.steps, default=0)
        if cut_dead(self.model, self._compaction, self.method, selecting):
            self._read_model()

    def _optimizer(self):
        return find_penalty_optimizer(self.model.optimizer)

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

    def _epoch_step(self, batch):
        return self._epoch_start + batch + 1

    def _make_plan(self, epoch):
        """Plan the run once its length is known; a plan in progress is gone on with."""
        steps = (self.params or {}).get("steps")
        epochs = (self.params or {}).get("epochs", 1)
        total = getattr(self.method, "total_steps", None)
        if total is None and not steps:
            if self._step == 0 and epochs > 1:
                return  # the length of an epoch shows itself in the first one
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
        self._plan = self.method.plan(first, last, steps or 1)
        if self._compaction.compactors:
            self.method.check(self._compaction, self._plan, last, optimizer)
        wait = self._plan.end(last) - self._step
        pruned_from = epochs - 1 if not steps else epoch - 1 + -(-wait // steps)
        if epoch < pruned_from and not self.target_met():
            warn_of_unpruned_choices(self.others, pruned_from)

    def _select_at(self, step):
        if self._plan is not None and step in self._plan.steps and self._compaction.compactors:
            self._sync()
            plan, late = self._plan, self._step - step
            if late and plan.forget_steps is not None:  # what is late must be forgotten sooner
                plan = dataclasses.replace(plan, forget_steps=max(1, plan.forget_steps - late))
            self.method.update(self._compaction, self._optimizer(), plan, step)
