"""From a trained model with compactors to the slim one: what is dead, and what is told."""

import dataclasses

from keras import ops

from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import call_with_values, weights_of_operation
from resrep_keras.methods.certificate import Finalized, certify, differing, tolerance_of
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.examples import FEWEST, Examples
from resrep_keras.surgery.fold import fold
from resrep_keras.surgery.rebuild import rebuild
from resrep_keras.surgery.repair import repair
from resrep_keras.surgery.statistics import hand_on_statistics, retake_statistics


def remove_dead(model, method, data=None, keep_batch_norm=False):
    """Remove the dead channels of a model, and its compactors.

    Args:
        model: A model with compactors; it is left as it is.
        method: The `ChannelMethod` that has trained it.
        data: Inputs to compare both models on beside random ones.
        keep_batch_norm: Whether batch normalisations in front of compactors stay; nothing is
            repaired then.

    Returns:
        A `Finalized`.
    """
    channel_state = ChannelState(model, method.input_shape, method.exact)
    if channel_state.baseline is None:  # made by hand
        channel_state.baseline = method.baseline(model, channel_state)
    dead = channel_state.dead(method.threshold)
    above = _above_threshold(channel_state, dead)
    examples = None if keep_batch_norm or not len(above) else _examples(model, data)
    if examples is not None:
        dead = channel_state.dead(float("inf"))
    graph, kept = channel_state.own, channel_state.own_keep(~dead)
    slim = fold(graph, kept, keep_batch_norm=keep_batch_norm, inputs=data)
    limits = method.limits(channel_state)
    counted = None if keep_batch_norm else slim  # a target is about what can be folded in the end
    values = [_value(limit, counted, ~dead) for limit in limits]
    around = None if examples is None else MaskedColumns(channel_state)
    certificate = dataclasses.replace(
        certify_removal(slim, channel_state, ~dead, data, around),
        limits=tuple((limit.name, value, limit.at_most) for limit, value in zip(limits, values)),
    )
    problems = (
        *_told_of(above, examples),
        *_missed(limits, values),
        *differing(certificate, tolerance_of(model, certificate)),
    )
    if examples is not None:
        folded = channel_state.folded
        certificate = repaired(folded.graph, folded.keep(~dead), slim, examples, certificate)
    return Finalized(slim, certificate, problems)


def _examples(model, data):
    """The `Examples` that a model can be repaired on; `None` where there are not enough."""
    examples = None if data is None else Examples(model, data)
    if examples is None or len(examples) < FEWEST:
        return None
    examples.check()
    return examples


class MaskedColumns:
    """What stands for the calls of a wrapped model in `play`: masked columns are zero.

    Args:
        channel_state: Its `ChannelState`.
    """

    def __init__(self, channel_state):
        self._values = {
            id(layer.kernel): (
                layer.kernel,
                layer.kernel * ops.cast(layer.keep_mask, layer.kernel.dtype),
            )
            for layer, _ in channel_state.compactors
        }

    def __call__(self, recorded, run, *args, **kwargs):
        variables = weights_of_operation(recorded.operation)
        values = [self._values[id(v)] for v in variables if id(v) in self._values]
        return call_with_values(run, values, recorded, *args, **kwargs)[0]


def certify_removal(slim, channels, kept, data=None, around=None):
    """The `Certificate` of a model that has lost channels.

    Args:
        slim: The model.
        channels: The `PrunableChannels` of the model before.
        kept: Bool, one for each channel id.
        data: Inputs to compare both on beside random ones.
        around: What stands for the calls of the model before, see `surgery.forward.play`.
    """
    recordings = channels.own.recording, recording_of(slim)
    macs = channels.baseline.dense["macs"], channels.cost()(kept)
    return dataclasses.replace(
        certify(*recordings, macs, data, channels.input_shape, around),
        inexact=tuple(
            (group.name, str(group.inexact))
            for group in channels.groups
            if group.inexact and not kept[group.channels].all()
        ),
    )


def repaired(graph, kept, slim, examples, certificate):
    """The `Certificate` of a slim model that is repaired on examples.

    Args:
        graph: `ChannelGraph` of the model before.
        kept: Bool, one for each of its channel ids.
        slim: What is left of it; its weights change.
        examples: The `Examples`.
        certificate: That of the removal.
    """
    # Statistics first, those of the whole model: what is fitted then is fitted to what holds.
    whole, after = recording_of(rebuild(graph.recording)), recording_of(slim)
    taken = retake_statistics(whole, examples, graph.frozen)
    hand_on_statistics(graph, kept, whole, after, taken)
    fitted = repair(graph, kept, whole, after, examples)
    return dataclasses.replace(certificate, repaired=(*taken, *fitted))


def _value(limit, slim, kept):
    """What the slim model has of a limited quantity: counted where it can be, else predicted."""
    count = QUANTITIES[limit.name].count
    return limit.cost(kept) if count is None or slim is None else count(slim)


def _above_threshold(channel_state, dead):
    """Norms of the masked channels that are not dead yet."""
    norms = channel_state.norms()
    return norms[~channel_state.kept() & ~dead & (norms > 0)]  # a layer keeps one, be it zero


def _told_of(above, examples):
    if len(above):
        fate = (
            "were kept"
            if examples is None
            else "were removed all the same; what reads them was fitted anew to the data given"
        )
        yield (
            f"{len(above)} masked channels are still above the threshold (largest norm "
            f"{above.max():.2g}) and {fate}. Train to the end of the planned run before finalize()."
        )


def _missed(limits, values):
    missed = []
    for limit, value in zip(limits, values):
        if value <= limit.at_most:
            continue
        share = 1 - limit.at_most / limit.dense
        missed.append(
            f"target_reduction={share:.4g} of {limit.name}, but {1 - value / limit.dense:.4f} of "
            f"the {limit.cost.unit} are removed"
            if limit.relative
            else f"at_most['{limit.name}']={limit.at_most:,}, but the slim model has {value:,.6g}"
        )
    if missed:
        yield (
            f"The target is not met: {'; '.join(missed)}. Train for the whole run that "
            "fit() was started with; early stopping and the restoring of best weights bring the "
            "unpruned model back."
        )
