"""What ResRep's two parts are worth: compactors, and the gradient reset.

    python benchmarks/resrep_ablation.py --data_dir=<folder of idx files>

Ways to press channels to zero, from the same dense net, with the same recipe, selections and
target: the group lasso acts on compactors, directly on kernels, or on all parameters that make a
channel (its kernel, scale and offset, which must all be zero for an exact removal); and the
objective's gradient of what makes the channels that are selected is set to zero, or not. The
penalty alone forgets, as in the paper; momentum and strength are the same for all, such that the
channels that are selected last can just reach zero in a run of this length. At the end the selected
channels are removed. Writes `benchmarks/results/resrep_ablation.json` and `.md`.
"""

import dataclasses

import numpy as np
import trials
from absl import app, flags
from keras import ops
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.methods.channels.channel_method import ChannelMethod
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.schedules import PaperSchedule
from resrep_keras.optimizers.frozen_compactors import FrozenCompactorsOptimizer

# Where the penalty acts. `_free`: without the gradient reset.
PLACES = {"compactor": "compactors", "kernel": "kernels", "direct": "kernels, scales, offsets"}
FLAGS = flags.FLAGS
CELLS = [place + reset for place in PLACES for reset in ("", "_free")]

flags.DEFINE_list("cells", CELLS, "What to run.")
flags.DEFINE_integer("dense_epochs", 6, "Epochs of the dense net, which each run goes on from.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_float("strength", 0.01, "Strength of the penalty, for norms of 1 at the start.")
flags.DEFINE_integer("interval", 5, "Steps between selections.")

MOMENTUM = 0.9  # that of the recipe
ZERO = 1e-3  # share of its norm at the start below which a channel counts as zero


class FreeCompactor(resrep_keras.Compactor):
    """A compactor without the gradient reset: its mask is only noted."""

    def masked_kernel(self):
        return ops.cast(self.kernel, self.compute_dtype)


class FreeResRep(resrep_keras.ResRep):
    """ResRep without the gradient reset."""

    def make_compactor(self, number, **settings):
        return FreeCompactor(**settings)


class ChannelLasso(FrozenCompactorsOptimizer):
    """A group lasso on all variables that make a channel, with the gradient reset or without.

    Args:
        inner_optimizer: The user's optimizer.
        makers: For each layer its variables, the last axis the channels.
        strength: Strength of the penalty, times the layer's mean norm at the start.
        reset: Whether the objective's gradient of masked channels is zero.
    """

    def __init__(self, inner_optimizer, makers, strength, reset):
        super().__init__(inner_optimizer)
        # In functions: Keras would take them for state of the optimizer.
        self._makers = lambda: makers
        starts = [float(np.mean(ops.convert_to_numpy(joint_norm(maker)))) for maker in makers]
        self._starts = lambda: starts
        self._strength, self._reset = strength, reset

    def build_parts(self, variables):
        super().build_parts(variables)
        self.masks = [
            self.add_variable(
                maker[0].shape[-1:], initializer="ones", dtype="float32", name=f"mask_{i}"
            )
            for i, maker in enumerate(self._makers())
        ]

    def apply_parts(self, grads, variables):
        found = {id(variable): gradient for gradient, variable in zip(grads, variables)}
        for maker, start, mask in zip(self._makers(), self._starts(), self.masks):
            norm = joint_norm(maker)
            pull = self._strength * start / ops.maximum(norm, 1e-12)
            for variable in maker:
                gradient = found[id(variable)]
                gradient = gradient * mask if self._reset else gradient
                found[id(variable)] = gradient + pull * variable
        super().apply_parts([found[id(variable)] for variable in variables], variables)

    def relative_norms(self):
        """For each layer the norm of each channel, that of the layer at the start being 1."""
        pairs = zip(self._makers(), self._starts())
        return [ops.convert_to_numpy(joint_norm(maker)) / start for maker, start in pairs]


def joint_norm(maker):
    """Norm of all that makes a channel, `(channels,)`."""
    squares = [ops.sum(ops.reshape(ops.square(v), (-1, v.shape[-1])), axis=0) for v in maker]
    return ops.sqrt(sum(squares))


@dataclasses.dataclass(eq=False, repr=False)
class DirectPenalty(ChannelMethod):
    """ResRep's selections and penalty on convolutions and their batch normalisation."""

    strength: float = 0.01
    reset: bool = True
    kernels_only: bool = False
    schedule: PaperSchedule = dataclasses.field(default_factory=PaperSchedule)

    def optimizer(self, inner, model=None):
        channel_state = ChannelState(model)
        maker_of = {t: call for call in channel_state.graph.calls for t in call.output_ids}
        by_layer = {id(call.operation): call for call in channel_state.graph.calls}
        makers = []
        for layer, _ in channel_state.compactors:
            norm = maker_of[by_layer[id(layer)].input_ids[0]]
            kernel = maker_of[norm.input_ids[0]].operation.kernel
            rest = () if self.kernels_only else (norm.operation.gamma, norm.operation.beta)
            makers.append((kernel, *rest))
        return ChannelLasso(inner, makers, self.strength, self.reset)

    def plan(self, first, last, steps_per_epoch):
        return self.schedule.plan(first, last, steps_per_epoch)

    def norms(self, channel_state, optimizer):
        """The norm of each channel, 1 being that of its layer at the start."""
        found = np.full(channel_state.graph.num_channels, np.inf)
        for (_, ids), norms in zip(channel_state.compactors, optimizer.relative_norms()):
            found[ids] = norms
        return found

    def update(self, channel_state, optimizer, plan, step):
        norms = self.norms(channel_state, optimizer)
        needed = int((~self.choose(channel_state, norms)).sum())
        kept = self.choose(channel_state, norms, plan.allowance(step, needed))
        channel_state.set_masks(kept)
        for (_, ids), mask in zip(channel_state.compactors, optimizer.masks):
            mask.assign(kept[ids].astype("float32"))


def method_of(cell):
    schedule = PaperSchedule(warmup_epochs=1, interval=FLAGS.interval, channels_per_selection=4)
    if cell.startswith("compactor"):
        kind = resrep_keras.ResRep if cell == "compactor" else FreeResRep
        return kind.paper(
            target_reduction=FLAGS.target_reduction,
            penalty_strength=FLAGS.strength,
            momentum=MOMENTUM,
            schedule=schedule,
        )
    return DirectPenalty(
        FLAGS.target_reduction,
        strength=FLAGS.strength,
        reset=not cell.endswith("_free"),
        kernels_only=cell.startswith("kernel"),
        schedule=schedule,
    )


def norms_of(model, channel_state):
    method = model.method
    direct = isinstance(method, DirectPenalty)
    return method.norms(channel_state, model.optimizer) if direct else channel_state.norms()


def run(cell, data, seed):
    """The record of a run."""

    def train(_):
        dense = trials.dense_net(data, seed, FLAGS.dense_epochs)
        model = resrep_keras.wrap(dense, method_of(cell))
        trials.fit(model, data, FLAGS.epochs, seed)
        channel_state = ChannelState(model)
        kept, norms = channel_state.kept(), norms_of(model, channel_state)
        accuracy = trials.accuracy(model, data)
        channel_state.switch_off(kept)
        slim = resrep_keras.finalize(model, strict=True)
        return {
            "with_all": accuracy,
            "accuracy": trials.accuracy(slim, data),
            "macs_left": round(slim.certificate.macs_left, 4),
            "removed": int((~kept).sum()),
            "at_zero": int((norms[~kept] < ZERO).sum()),
            "largest_norm": float(norms[~kept].max()),
            "median_norm": float(np.median(norms[~kept])),
            "median_norm_kept": float(np.median(norms[kept & np.isfinite(norms)])),
        }

    return trials.record(f"ablation_{cell}_{FLAGS.strength:g}_{seed}", train)


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; small_resnet, {result['images']:,} "
        f"images of Fashion-MNIST, {len(result['seeds'])} seeds, mean and sample standard "
        f"deviation. {result['epochs'][1]} epochs from a dense net of {result['epochs'][0]}, "
        f"target_reduction={result['target_reduction']}, strength {result['strength']:g}, "
        f"momentum {MOMENTUM}. Norms as shares of those at the start; one "
        f"below {ZERO:g} counts as zero.",
        "",
    ]
    header = (
        "penalty on",
        "gradient reset",
        "accuracy with all channels (%)",
        "after the removal (%)",
        "channels at zero",
        "largest norm removed",
        "median norm removed / kept",
        "MACs left (%)",
    )
    table = []
    for cell, runs in result["runs"].items():
        removed, zero = (sum(run[key] for run in runs) for key in ("removed", "at_zero"))
        medians = [np.mean([r[key] for r in runs]) for key in ("median_norm", "median_norm_kept")]
        table.append(
            (
                PLACES[cell.removesuffix("_free")],
                "off" if "free" in cell else "on",
                mean_and_spread([run["with_all"] for run in runs]),
                mean_and_spread([run["accuracy"] for run in runs]),
                f"{zero} of {removed}",
                f"{max(run['largest_norm'] for run in runs):.2g}",
                f"{medians[0]:.2g} / {medians[1]:.2g}",
                f"{100 * np.mean([run['macs_left'] for run in runs]):.1f}",
            )
        )
    lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def main(_):
    data = trials.begin()
    result = {
        **trials.origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": FLAGS.target_reduction,
        "strength": FLAGS.strength,
        "interval": FLAGS.interval,
        "runs": trials.records(FLAGS.cells, lambda cell, seed: run(cell, data, seed)),
    }
    trials.publish(result, as_markdown)


if __name__ == "__main__":
    app.run(main)
