"""From a trained model with compactors to the slim one: what is dead, and what is told."""

import dataclasses

from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.certificate import Finalized, certify, differing, tolerance_of
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.fold import fold


def remove_dead(model, method, data=None):
    """Remove the dead channels of a model, and its compactors.

    Args:
        model: A model with compactors; it is left as it is.
        method: The `ChannelMethod` that has trained it.
        data: Inputs to compare both models on beside random ones.

    Returns:
        A `Finalized`.
    """
    channel_state = ChannelState(model, method.input_shape, method.exact)
    if channel_state.baseline is None:  # made by hand
        channel_state.baseline = method.baseline(model, channel_state)
    dead = channel_state.dead(method.threshold)
    graph, kept = channel_state.own, channel_state.own_keep(~dead)
    slim = fold(graph, kept)
    limits = method.limits(channel_state)
    values = [_value(limit, slim, ~dead) for limit in limits]
    certificate = dataclasses.replace(
        certify_removal(slim, channel_state, ~dead, data),
        limits=tuple((limit.name, value, limit.at_most) for limit, value in zip(limits, values)),
    )
    problems = (
        *_above_threshold(channel_state, dead),
        *_missed(limits, values),
        *differing(certificate, tolerance_of(model, certificate)),
    )
    return Finalized(slim, certificate, problems)


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


def _value(limit, slim, kept):
    """What the slim model has of a limited quantity: counted where it can be, else predicted."""
    count = QUANTITIES[limit.name].count
    return limit.cost(kept) if count is None else count(slim)


def _above_threshold(channel_state, dead):
    norms = channel_state.norms()
    masked = ~channel_state.kept() & ~dead & (norms > 0)  # a layer keeps one channel, be it zero
    if masked.any():
        worst = norms[masked].max()
        yield (
            f"{int(masked.sum())} masked channels are still above the threshold (largest norm "
            f"{worst:.2g}) and were kept. Train to the end of the planned run before finalize()."
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
