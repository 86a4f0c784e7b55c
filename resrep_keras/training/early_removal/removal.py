"""A wrapped model loses its dead channels in the middle of training, and goes on."""

import dataclasses
import typing

import keras
import numpy as np

from resrep_keras.costs.macs import MacCost
from resrep_keras.graph.trace import recording_of, trace, trace_recording
from resrep_keras.keras_adapter import become
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.gated import Gated
from resrep_keras.surgery.constraints import dropped_constraints
from resrep_keras.surgery.fold import fold
from resrep_keras.surgery.forward import fitting_inputs, play
from resrep_keras.surgery.heads import differences
from resrep_keras.surgery.parts import parts_of
from resrep_keras.surgery.remove import narrow_parts
from resrep_keras.training.early_removal.diagonalise import diagonalise
from resrep_keras.training.early_removal.optimizer_state import continued

# Largest relative difference of outputs that passes as rounding, in 32 bits and in 16.
TOLERANCE, HALF_TOLERANCE = 1e-5, 5e-2
# Largest change of outputs in training, root mean square as a share: there batch normalisation goes
# by its batch, which moving averages lag behind in the first steps of a run: removal waits for
# them.
TRAINING_TOLERANCE = 0.05
# Removal has the training step compiled anew; it waits until it saves this share of the cost.
WORTH = 0.2


def worthwhile(channel_state, method, selecting):
    """What should be removed now: `(dead, last)` as `remove_early` takes them, or `None`.

    Args:
        channel_state: The `ChannelState` of a wrapped model that is trained.
        method: Its method.
        selecting: Whether selections are still to come.
    """
    if not channel_state.compactors:
        return None
    dead = channel_state.dead(method.threshold)
    forgetting = ~channel_state.kept() & ~dead & (channel_state.norms() > 0)
    last = not selecting and not forgetting.any()
    cost = MacCost(channel_state.graph)
    # Timed widths are those of the dense layers: a narrower one could not be rounded any more.
    early = not method.times_widths() and cost(~dead) <= (1 - WORTH) * cost()
    return (dead, last) if last or early else None


class Outcome(typing.NamedTuple):
    """What became of a removal.

    Args:
        difference: The largest relative difference of the outputs, `None` where it was not
            measured, because the removal waits.
        done: Whether channels were removed.
        dropped: Pairs `(layer name, setting)` of the constraints that it would have broken.
    """

    difference: float | None
    done: bool
    dropped: tuple = ()


def remove_early(model, channel_state, dead, last, inputs=None, tolerance=float("inf")):
    """Remove channels and, with `last`, the compactors; `model` itself goes on, narrower.

    Optimizer state goes along: each slot through the rule that narrows its layer.

    Args:
        model: A compiled wrapped model; left as it is where the outputs would change.
        channel_state: Its `ChannelState`.
        dead: The channels that go, bool `(num_channels,)`.
        last: Whether this removal is the last of the run, so that compactors go, too: they are
            folded into the other layers, where that breaks no constraint.
        inputs: Inputs of the data at hand, see `diagonalise`.
        tolerance: Largest difference of outputs on them, under batch statistics, that is allowed.

    Returns:
        An `Outcome`. The model waits where training would not go on as it was: under batch
        statistics, or because a constraint of the user's would not hold any more.
    """
    narrow, stages, parts = _narrowed(channel_state, dead, last, inputs)
    before, after = stages[0], stages[-1]
    dropped = dropped_constraints(before, after)
    if dropped or not (dead.any() or _folded(stages)):
        return Outcome(None, False, dropped)
    if inputs is not None and _training_difference(before, after, inputs) > tolerance:
        return Outcome(None, False)
    difference = _output_difference(before, after, channel_state.input_shape, inputs)
    if not difference <= _tolerance(model):
        return Outcome(difference, False)
    early_removal = model.early_removal
    fresh = early_removal.narrower(model, narrow, _after(channel_state, dead, difference))
    old, new = model.trainable_variables, fresh.trainable_variables
    early_removal.compile(fresh, continued(model.optimizer, old, new, stages, parts))
    become(model, fresh)
    early_removal.prepare(model)
    return Outcome(difference, True)


def _narrowed(channel_state, dead, last, inputs):
    """The model without the dead channels, and how it came about.

    Returns:
        A Functional model; the `Recording`s of the model before, with diagonal compactors, without
        the channels and, with `last`, without compactors, where these can be folded into layers
        whose constraints still hold then; and what is left of the layers when the channels go.
    """
    graph, kept = channel_state.own, channel_state.own_keep(~dead)
    stages = [graph.recording]
    diagonal = diagonalise(graph, kept, inputs)
    if diagonal is not None:
        before, graph = graph, trace(diagonal, exact=channel_state.exact)
        kept = graph.keep_array(before.keep_by_producer(kept))
    parts = parts_of(graph, kept)
    narrow = narrow_parts(graph.recording, parts)
    stages += [graph.recording, recording_of(narrow)]
    if last:  # compactors that scale only: a batch normalisation stays one
        folded = fold(trace_recording(stages[-1]), vectors=True)
        if not dropped_constraints(stages[-1], recording_of(folded)):
            narrow = folded
            stages.append(recording_of(narrow))
    return narrow, stages, parts


def _folded(stages):
    """Whether the last stage of a removal is a model without compactors."""
    return not any(
        isinstance(call.operation, (Compactor, Gated)) for call in stages[-1].all_calls()
    )


def _after(channel_state, dead, difference):
    """The `Baseline` after one more removal."""
    widths = {p.name: len(p.channels) for g in channel_state.groups for p in g.producers}
    removal = channel_state.removal.then(int(dead.sum()), widths, difference)
    return dataclasses.replace(channel_state.baseline, removal=removal)


def _output_difference(first, second, input_shape, data):
    """Largest relative difference on random inputs; on data where these tell nothing."""
    inputs = fitting_inputs(first, input_shape=input_shape)
    found = differences(first, second, inputs).relative
    unknown = data is not None and np.isnan(found)
    return differences(first, second, data).relative if unknown else found


def _training_difference(first, second, inputs):
    """Difference of outputs under batch statistics, root mean square, as a share."""
    pairs = zip(*(keras.tree.flatten(play(each, inputs, True)) for each in (first, second)))
    return max(float(np.sqrt(((a - b) ** 2).mean() / max((a**2).mean(), 1e-24))) for a, b in pairs)


def _tolerance(model):
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in model.layers)
    return HALF_TOLERANCE if half else TOLERANCE
