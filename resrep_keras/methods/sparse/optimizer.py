"""SparseOptimizer: the user's optimizer, and masks that keep single weights at zero."""

import dataclasses
import typing

import keras
from keras import ops

from resrep_keras.common.hashed import random_scores
from resrep_keras.common.untracked import Untracked
from resrep_keras.methods.sparse import masks as rules
from resrep_keras.methods.sparse.densities import (
    MOST_ROUNDS,
    kept_at,
    regrow_rate_at,
    sparse_kernels,
)
from resrep_keras.methods.sparse.settings import SparseSettings
from resrep_keras.optimizers.transfer import read_slots
from resrep_keras.optimizers.wrapper import OptimizerWrapper, keep_where

# Mask updates of a run where no interval is given.
PLANNED_UPDATES = 100


@dataclasses.dataclass(frozen=True)
class _MaskedKernel:
    """A kernel, its mask, and what the inner optimizer holds for it."""

    kernel: keras.Variable
    mask: keras.Variable
    slots: tuple
    accumulator: keras.Variable | None


@keras.saving.register_keras_serializable("resrep_keras")
class SparseOptimizer(OptimizerWrapper):
    """Trains a model while more and more of its single weights become zero.

    Each step is a step of the inner optimizer, after which kernels and the slots of the inner
    optimizer (momentum and the like) are zero wherever the mask is not set. Every `interval` steps
    the masks are made anew, in this order:

    ```
    1. while k <= n: keep the round(N (1 - s_k)) largest |w|, s_k = s_f + (s_i - s_f) (1 - k/n)^3
    2. in each layer with c active weights, q = ceil(r_t c): drop the q smallest |w|,
       then activate the q largest |dL/dw| among the inactive; what was just dropped may come back
    ```

    A new weight begins at 0. One that is dropped and grown at once keeps value and momentum. The
    masks are variables of the optimizer and change inside the compiled step.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer` or its name.
        name: Name of the optimizer.
        **settings: Those of `SparseSettings`. With an initial sparsity, `apply_masks` sets the
            zeros before the first step.

    Attributes:
        plan: The steps between which the run goes, which `fit` of a wrapped model sets; in a loop
            of one's own, `optimizer.plan.assign([0, steps])`. Outside of it masks do not change.

    Raises:
        TypeError: An unknown setting, or one of another kind.
        ValueError: A setting out of range.

    Example:

    >>> optimizer = SparseOptimizer("sgd", final_sparsity=0.98)

    Reference:
        Liu et al., "Sparse Training via Boosting Pruning Plasticity with Neuroregeneration",
        NeurIPS 2021, algorithm 1.

    Note:
        The reference code leaves out the last step of gradual pruning, and may grow weights that
        are active already where few gradients are not zero; this one does neither. Where gradients
        are accumulated, growth reads their sum.
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer | str,
        name: str | None = None,
        **settings: typing.Any,
    ) -> None:
        checked = SparseSettings(**settings)
        super().__init__(inner_optimizer, name=name)
        self.settings = checked

    def make_state(self, variables):
        super().make_state(variables)
        own = self.settings
        kernels = sparse_kernels(variables, own.exclude)
        shapes = [tuple(kernel.shape) for kernel in kernels]
        values = rules.first_masks(
            kernels, own.initial_sparsity, own.distribution, own.scope, own.seed
        )
        slots = read_slots(self.inner_optimizer, variables)
        masked = [
            self._masked_kernel(k, mask, slots.get(id(k), ())) for k, mask in zip(kernels, values)
        ]
        self._masked = Untracked(masked)
        self.updated = self.keep("updated", (), "int32")
        goals = [
            rules.numbers_at(shapes, share, own.distribution, own.scope)
            for share in (own.initial_sparsity, own.final_sparsity)
        ]
        self._goals = Untracked(list(zip(*goals)))

    def _masked_kernel(self, kernel, values, slots):
        mask = self.keep(
            f"{kernel.path}_mask",
            kernel.shape,
            "bool",
            lambda shape, dtype: ops.convert_to_tensor(values),
        )
        # Accumulated gradients are no slots: growth needs those of inactive weights.
        sums = {s.path.endswith("gradient_accumulator"): s for s in slots}.get(True)
        return _MaskedKernel(kernel, mask, tuple(slot for slot in slots if slot is not sums), sums)

    def update_variables(self, grads, variables):
        own, masked = self.settings, self._masked.value
        old = [ops.copy(one.mask.value) for one in masked]
        scores = (
            self._gradients(masked, dict(zip(map(id, variables), grads))) if own.changes else None
        )
        before = self.rate_optimizer.iterations + 0  # a value, where the variable goes on
        self.inner_optimizer.apply(grads, variables)
        new = old
        if own.changes:
            clock = self._clock()
            # Gradients that are only accumulated update nothing.
            due = ops.logical_and(clock.pop("due"), self.rate_optimizer.iterations != before)
            new = ops.cond(due, lambda: self._renew(old, scores, **clock), lambda: old)
            self.updated.assign(ops.where(due, self.steps + 1, self.updated.value))
        for one, was, mask in zip(masked, old, new):
            one.mask.assign(mask)
            # What is grown begins at zero, also in the slots; the update has moved it already.
            keep_where(ops.logical_and(was, one.mask.value), (one.kernel, *one.slots))

    def _gradients(self, masked, given):
        """Gradients that this update is made of, `None` where weights grow at random."""
        if self.settings.growth == "random" or not self.settings.regrow_rate:
            return None
        found = []
        for one in masked:
            gradient = given.get(id(one.kernel))
            gradient = ops.zeros_like(one.kernel.value) if gradient is None else gradient
            if one.accumulator is not None:
                gradient = gradient + one.accumulator.value
            found.append(gradient)
        return found

    def _clock(self):
        """Where the run is: an update is `due`, `k` of `n`, `grows` at a `rate`; scalars."""
        own = self.settings
        first, steps = self.plan[0], self.plan[1] - self.plan[0]
        step = self.steps + 1 - first
        begin, end, last = (
            ops.cast(ops.round(share * ops.cast(steps, "float32")), "int32")
            for share in (own.begin, own.end, own.regrow_end)
        )
        begin = ops.clip(begin, 0, ops.maximum(steps - 1, 0))
        # The last update of accumulated gradients may come some steps before the end.
        end = ops.maximum(ops.minimum(end, steps + 1 - self.steps_per_update), begin + 1)
        length = end - begin
        interval = own.interval or ops.clip(steps // PLANNED_UPDATES, 1, length)
        k = (step - begin) // interval
        due = (steps > 0) & (step <= steps) & (k > 0)
        # Steps that a loss scale leaves out must not skip an update: it comes with the next one.
        due = due & (first + begin + k * interval > self.updated)
        n = ops.maximum(length // interval, 1)
        grows = (step <= last) | (k == 1)
        coarse = (n + MOST_ROUNDS - 1) // MOST_ROUNDS  # so that n fits
        return {
            "due": due,
            "k": ops.minimum(k, n) // coarse,
            "n": n // coarse,
            "grows": grows,
            "rate": regrow_rate_at(step, ops.maximum(steps, 1), own.regrow_rate),
        }

    def _renew(self, old, gradients, k, n, grows, rate):
        """The masks after an update, from those before it."""
        own, masked = self.settings, self._masked.value
        masks = [ops.reshape(mask, (-1,)) for mask in old]
        sizes = [rules.size_of(one.kernel.value) for one in masked]
        if own.initial_sparsity < own.final_sparsity:
            numbers = [kept_at(k, n, first, last) for first, last in self._goals.value]
            masks = rules.prune(masks, sizes, numbers)
        if own.regrow_rate > 0:
            scores = (
                [
                    random_scores(each.shape[0], self.steps, own.seed + 7919 * layer)
                    for layer, each in enumerate(sizes)
                ]
                if gradients is None
                else [rules.size_of(gradient) for gradient in gradients]
            )
            rate = ops.where(grows, rate, 0.0)
            masks = [rules.regenerate(*each, rate) for each in zip(masks, sizes, scores)]
        return [ops.reshape(mask, was.shape) for mask, was in zip(masks, old)]

    def apply_masks(self):
        """Set to zero what the masks do not keep, in kernels and slots."""
        for one in self._masked.value:
            keep_where(one.mask.value, (one.kernel, *one.slots))

    def masks(self):
        """``{path of a kernel: NumPy bool array}``, `True` where a weight is kept."""
        return {one.kernel.path: ops.convert_to_numpy(one.mask) for one in self._masked.value}

    def own_config(self):
        return {**dataclasses.asdict(self.settings), "exclude": list(self.settings.exclude)}
