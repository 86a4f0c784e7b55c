"""ResRep: lossless channel pruning by decoupling remembering and forgetting."""

import dataclasses

import keras
import numpy as np

from resrep_keras.common.checks import check_choice, check_instance, check_number, setting
from resrep_keras.costs.macs import positions_of
from resrep_keras.methods.channels.channel_method import ChannelMethod
from resrep_keras.methods.channels.schedules import (
    PaperSchedule,
    PlannedSchedule,
    Schedule,
    summed_rate,
)
from resrep_keras.methods.channels.scores import (
    guarded,
    per_cost,
    relative_to_layer,
    savings,
    sum_over,
)
from resrep_keras.optimizers.penalty import PenaltyOptimizer
from resrep_keras.surgery.constraints import is_constrained

# A full matrix of more channels than this costs more memory than its mixing is worth.
LARGEST_MATRIX = 2048


def _norm(channel_state, optimizer):
    return channel_state.norms()


def _fisher(channel_state, optimizer):
    changes = [
        (ids, optimizer.squared_changes(layer.kernel))
        for layer, ids in channel_state.behind_producers
    ]
    return sum_over(changes, channel_state.graph.num_channels)


def _root_fisher(channel_state, optimizer):
    return np.sqrt(_fisher(channel_state, optimizer))


def _norm_fisher(channel_state, optimizer):
    return channel_state.norms() * _root_fisher(channel_state, optimizer)


SCORES = {
    "norm": _norm,
    "fisher": _fisher,
    "root_fisher": _root_fisher,
    "norm_fisher": _norm_fisher,
}


def _raw(method, channel_state, scores):
    return scores


def _per_layer(method, channel_state, scores):
    return relative_to_layer(scores, channel_state.groups, channel_state.kept())


def _per_cost(method, channel_state, scores):
    if "savings" not in channel_state.memo:  # the same at each selection
        limits = method.limits(channel_state)
        channel_state.memo["savings"] = savings(len(scores), channel_state.groups, limits)
    return per_cost(scores, channel_state.memo["savings"])


NORMALIZATIONS = {"none": _raw, "layer": _per_layer, "cost": _per_cost}


@keras.saving.register_keras_serializable("resrep_keras")
@dataclasses.dataclass(eq=False, repr=False)
class ResRep(ChannelMethod):
    """Trains compactors whose columns forget, while the rest of the model remembers.

    At each selection the channels that are worth least are masked, globally, until the target is
    met. The objective no longer reaches a masked column, so that it can shrink to zero. The paper
    measures worth by compactor norms; the defaults here by what the loss would change by, which
    goes on where norms alone empty whole layers.

    Args:
        penalty_strength: Group lasso on all columns. Defaults to `1e-4`.
        momentum: Momentum of compactors. Defaults to `0.9`.
        compactor_rate: Learning rate of compactors as a share of that of the other weights, as it
            is in the paper at `1`. Where no batch normalisation stands before a compactor, a large
            one upsets the training. Defaults to `0.1`.
        schedule: When to select; a `PlannedSchedule` or `PaperSchedule`. Defaults to a
            `PlannedSchedule`, which meets the target in a run of any length.
        score: What a channel is worth: `"norm"`, that of its compactor's column, as in the paper;
            `"fisher"`, the squared first-order change of the loss if the column went, a mean over
            recent steps (see `PenaltyOptimizer.squared_changes`); `"root_fisher"`, its root; or
            `"norm_fisher"`, that root times the norm. Defaults to `"fisher"`.
        guard: How much a score rises as its layer empties, see `scores.guarded`; 0 for not at all,
            as in the paper. Defaults to `1`.
        normalization: What is compared between layers: `"none"`, the score itself as in the paper;
            `"layer"`, a score relative to its layer's mean; or `"cost"`, a score per share of the
            limited costs that removing the channel saves. Defaults to `"none"`.
        compactor: `"full"` matrices as in the paper, `"diagonal"` ones, or `"auto"`: full, but for
            layers that it would more than double, and for those with constraints, which mixed
            weights would break. Defaults to `"auto"`.
        threshold: Norm below which a masked column counts as zero. Defaults to `1e-5`.
        slim_every: Epochs between removals of dead channels while `fit` runs, so that training gets
            faster as it prunes; after the last selection compactors go, too. The model stays the
            same object, narrower; its outputs, optimizer state, schedules and callbacks go on. Each
            removal compiles the training step anew, so that small ones wait. Not for distributed
            training, nor with callbacks that keep weights of wider models (`BackupAndRestore`,
            `restore_best_weights`). Defaults to `None`: channels stay until `finalize`.
        **settings: Those of `ChannelSettings`, the first of which is `target_reduction`, and
            `total_steps`.

    Example:

    >>> model = resrep_keras.wrap(dense, resrep_keras.ResRep(target_reduction=0.6, min_channels=8))

    Reference:
        Ding et al., ICCV 2021. `ResRep.paper()` has its settings.
    """

    penalty_strength: float = setting(1e-4, check_number, at_least=0)
    momentum: float = setting(0.9, check_number, at_least=0, below=1)
    compactor_rate: float = setting(0.1, check_number, at_least=0)
    schedule: Schedule | None = setting(
        None, check_instance, kinds=Schedule, words="a PlannedSchedule or PaperSchedule"
    )
    score: str = setting("fisher", check_choice, known=tuple(SCORES))
    guard: float = setting(1.0, check_number, at_least=0)
    normalization: str = setting("none", check_choice, known=tuple(NORMALIZATIONS))
    compactor: str = setting("auto", check_choice, known=("auto", "full", "diagonal"))
    threshold: float = setting(1e-5, check_number, at_least=0)
    slim_every: int | None = setting(  # type: ignore[assignment]  # a field for a constant
        None, check_number, at_least=1, whole=True
    )

    def __post_init__(self):
        super().__post_init__()
        if self.schedule is None:
            self.schedule = PlannedSchedule()

    @classmethod
    def paper(cls, **settings):
        """The paper's settings: strength 1e-4, momentum 0.99, four channels every 200 steps.

        Its schedule was 180 epochs at batch 256 (ResNet-50, ImageNet) or 480 at 64 (ResNet-56,
        CIFAR-10), the rate annealed from 0.01 to 0 by a cosine. It prunes inside of residual blocks
        only, in a model that has any. In a short run the penalty alone
        forgets nothing; `fit` says so before the first step.
        """
        defaults = {
            "penalty_strength": 1e-4,
            "momentum": 0.99,
            "compactor_rate": 1.0,
            "schedule": PaperSchedule(),
            "compactor": "full",
            "score": "norm",
            "guard": 0.0,
            "normalization": "none",
            "scope": "blocks",
        }
        return cls(**{**defaults, **settings})

    def diagonal(self, graph, sites, layer_macs):
        if self.compactor != "auto":
            return set(sites) if self.compactor == "diagonal" else set()
        outputs = {call.name: call for call in graph.calls}
        chosen = set()
        for name, site in sites.items():
            if site.inside is not None:
                continue
            shape = outputs[name].output_shape
            axis = site.axis % len(shape)
            channels, positions = shape[axis], positions_of(shape, axis)
            maker = graph.producer_before(outputs[name])
            # Mixed weights would break most constraints; scaled ones, or a batch norm's, do not.
            held = {name, maker} & outputs.keys()
            constrained = any(is_constrained(outputs[each].operation) for each in held)
            dear = positions is None or positions * channels**2 > layer_macs.get(maker, 0)
            if channels > LARGEST_MATRIX or dear or constrained:
                chosen.add(name)
        return chosen

    def optimizer(self, inner, model=None):
        del model
        return PenaltyOptimizer(
            inner,
            self.penalty_strength,
            self.momentum,
            compactor_rate=self.compactor_rate,
        )

    def plan(self, first, last, steps_per_epoch):
        return self.schedule.plan(first, last, steps_per_epoch)

    def check(self, channel_state, plan, last, optimizer):
        """A masked column falls by `rate * strength / (1 - momentum)` a step: enough to reach 0?"""
        if optimizer is None:
            raise ValueError(
                "The model is not trained by a PenaltyOptimizer, without which no compactor "
                "forgets. Compile a model made by resrep_keras.wrap, or set model.optimizer = "
                "method.optimizer(keras.optimizers.Adam())."
            )
        channel_state.check_trained()
        every = optimizer.steps_per_update
        if self.score != "norm" and max(plan.steps[-1], optimizer.steps_done) < every:
            raise ValueError(
                f"This run cannot select by score='{self.score}': gradients are accumulated over "
                f"{every} steps, and no update comes before the last selection, after step "
                f"{plan.steps[-1]}. Train longer, lower gradient_accumulation_steps, or set "
                "score='norm'."
            )
        if plan.forget_steps is not None:
            if last // every - plan.steps[-1] // every < max(1, plan.forget_steps // every):
                raise ValueError(
                    f"This run cannot meet its target: gradients are accumulated over {every} "
                    f"steps, and no update comes between the last selection, after step "
                    f"{plan.steps[-1]}, and the end, after step {last}. Train longer, or lower "
                    "gradient_accumulation_steps."
                )
            return
        kept = self.choose(channel_state, channel_state.norms())
        needed = -(-(int((~kept).sum()) + channel_state.removed) // plan.channels_per_selection)
        begin = plan.steps[needed - 1] if needed <= len(plan.steps) else last
        pull = self.compactor_rate * self.penalty_strength / (1 - self.momentum)
        rates = optimizer.rate_optimizer
        late = optimizer.steps_before
        fall = pull * summed_rate(rates, max(0, begin - late), max(0, last - late)) / every
        if fall < 1:
            raise ValueError(
                f"This run cannot meet its target: {needed} selections are needed, "
                f"{len(plan.steps)} fit in, and the last channels masked could shrink by "
                f"{fall:.3g} of the 1 that reaches zero (sum of learning rates * compactor_rate * "
                "penalty_strength / (1 - momentum)). Train longer, or use the default schedule, "
                "PlannedSchedule()."
            )

    def update(self, channel_state, optimizer, plan, step):
        if self.score != "norm" and optimizer.steps_done < optimizer.steps_per_update:
            return  # no update has said yet what channels are worth; later selections take more
        scores = self.scores(channel_state, optimizer)
        enough = self.choose(channel_state, scores)
        removed = channel_state.removed
        allowance = plan.allowance(step, int((~enough).sum()) + removed) - removed
        kept = self.choose(channel_state, scores, max(0, allowance))
        channel_state.set_masks(kept)
        if plan.forget_steps is not None:
            # Columns shrink once an update, and a plan counts steps.
            updates = max(1, plan.forget_steps // optimizer.steps_per_update)
            self._forget(channel_state, optimizer, updates)

    def scores(self, channel_state, optimizer=None):
        """Importance of each channel.

        Args:
            channel_state: The `ChannelState` of the wrapped model.
            optimizer: The `PenaltyOptimizer` that trains it; without one, norms count.
        """
        if optimizer is None:  # and none has been trained before there is one
            scores = channel_state.norms()
        else:
            scores = SCORES[self.score](channel_state, optimizer)
        scores = guarded(scores, channel_state.groups, self.guard)
        return NORMALIZATIONS[self.normalization](self, channel_state, scores)

    def _forget(self, channel_state, optimizer, updates):
        for layer, _ in channel_state.compactors:
            masked = ~np.asarray(keras.ops.convert_to_numpy(layer.keep_mask), bool)
            norms = layer.column_norms()
            current = optimizer.forgetting(layer.kernel)
            # A channel that is being forgotten goes on at its pace; a released one stops. The sum
            # of rounded steps must not fall short of the norm.
            begun = np.maximum(norms * (1 / updates + 1e-6), np.finfo(np.float32).tiny)
            optimizer.forget(
                layer.kernel, np.where(masked, np.where(current > 0, current, begun), 0.0)
            )
