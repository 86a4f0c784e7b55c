"""PruningCallback: the selections of a run that removes channels."""

import bisect
import dataclasses

from resrep_keras.keras_adapter import sync_state
from resrep_keras.methods.callback import MethodCallback
from resrep_keras.methods.callback_checks import warn_of_unpruned_choices
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.divergence import check_finite
from resrep_keras.methods.method import Method, check_method
from resrep_keras.methods.pruning_log import norms_of
from resrep_keras.methods.wrapped import baseline_of


class PruningCallback(MethodCallback):
    """Runs the selections of a wrapped model's method; `fit` installs one by itself.

    It logs `macs_left`, the share of the dense MACs that the keep masks leave, and the like for
    each other quantity of the target. In a custom training loop, drive it through a
    `keras.callbacks.CallbackList`.

    Args:
        method: The method. Defaults to that of the model.

    Raises:
        TypeError: `method` is no method.
        ValueError: The model has no compactors, or the run is too short for its target.
    """

    def __init__(self, method: Method | None = None) -> None:
        super().__init__(None if method is None else check_method("method", method))

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._read_model()
        self.plan = None

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        self._select_at(self._step)

    def on_train_batch_end(self, batch, logs=None):
        # With steps_per_execution > 1, several steps end at once.
        before = self._step
        super().on_train_batch_end(batch, logs)
        if self.plan is not None:
            steps = self.plan.steps
            due = bisect.bisect_right(steps, self._step)
            if due > bisect.bisect_right(steps, before):
                self._select_at(steps[due - 1])

    def report(self):
        kept = self.channel_state.kept()
        left = {f"{limit.name}_left": limit.left(kept) for limit in self._limits}
        return {"macs_left": self.macs_left(), **left, **super().report()}

    @property
    def channel_state(self):
        """The `ChannelState` of the model, read again where channels have left it."""
        baseline = baseline_of(self.pruned)
        if baseline is not None and baseline is not self._channel_state.baseline:
            self._read_model()
        return self._channel_state

    @property
    def selecting(self):
        """Whether selections are still to come, or not planned yet."""
        return self.plan is None or self._step < max(self.plan.steps, default=0)

    def macs_left(self):
        """Share of the dense MACs that the keep masks leave."""
        channel_state = self.channel_state
        return channel_state.cost()(channel_state.kept()) / max(
            1, channel_state.baseline.dense["macs"]
        )

    def target_met(self):
        """Whether `finalize` would meet the target now, with no masked channel left above zero."""
        channel_state = self.channel_state
        dead = channel_state.dead(self.method.threshold)
        waiting = ~channel_state.kept() & ~dead & (channel_state.norms() > 0)
        return not waiting.any() and all(limit.met(~dead) for limit in self._limits)

    # ------------------------------------------------------------------------------------------

    def _norms(self):
        return norms_of(self.channel_state) if self.channel_state.compactors else None

    def _macs_of_masks(self):
        """What `macs_left` is, by a cost that was made once."""
        state = self.channel_state
        left = state.predicted("macs")(state.kept())
        return {"macs_left": left / max(1, state.baseline.dense["macs"])}

    def _read_model(self):
        state = ChannelState(self.pruned, self.method.input_shape, self.method.exact)
        if state.baseline is None:  # made by hand
            state.baseline = self.method.baseline(self.pruned, state)
        self._channel_state, self._limits = state, self.method.limits(state)
        self.method.prepare_run(self.pruned, state)

    def _plans(self):
        return True

    def _begin_run(self, epoch, first, last, steps):
        super()._begin_run(epoch, first, last, steps)
        self.plan = self.method.plan(first, last, steps or 1)
        if self.channel_state.compactors:
            self.method.check(self.channel_state, self.plan, last, self._optimizer())
        self._note(None, self._macs_of_masks())
        epochs = (self.params or {}).get("epochs", 1)
        wait = self.plan.end(last) - self._step
        pruned_from = epochs - 1 if not steps else epoch - 1 + -(-wait // steps)
        if epoch < pruned_from and not self.target_met():
            warn_of_unpruned_choices(self._callbacks(), pruned_from)

    def _select_at(self, step):
        if self.plan is not None and step in self.plan.steps and self.channel_state.compactors:
            sync_state(self.model)
            check_finite(self.model, self._step)
            plan, late = self.plan, self._step - step
            if late and plan.forget_steps is not None:  # what is late must be forgotten sooner
                plan = dataclasses.replace(plan, forget_steps=max(1, plan.forget_steps - late))
            self.method.update(self.channel_state, self._optimizer(), plan, step)
            self._note(None, self._macs_of_masks())
