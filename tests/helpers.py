"""What the law tests share."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.graph.trace import recording_of
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.surgery.insert import compactors_by_site
from resrep_keras.surgery.zero_channels import without_zero_channels
from tests import zoo


def each_kind(names):
    """A test over models of the zoo: in every run those of `IN_EVERY_RUN`, in slow ones all."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=() if n in zoo.IN_EVERY_RUN else slow) for n in names]
    )


def cases():
    """``{name: (builds the model, sizes)}``, and what registers a function there with its sizes."""
    found = {}

    def case(*sizes):
        def decorate(build):
            found[build.__name__] = build, sizes
            return build

        return decorate

    return found, case


def removed_at_random(dense):
    """Random channels go, exactly and as planned; the `ChannelState` of the wrapped model."""
    wrapped = resrep_keras.wrap(zoo.randomise(dense), resrep_keras.ResRep(0.01, coupled=True))
    state = ChannelState(wrapped)
    check_random_removal(wrapped, state)
    return state


def outputs_of(model, seed=0):
    return keras.tree.flatten(run(model, example_inputs(model, seed=seed)))


def difference(first, second, seed=0):
    """Largest relative difference of two models' outputs."""
    pairs = list(zip(outputs_of(first, seed), outputs_of(second, seed)))
    assert pairs
    return max(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12) for a, b in pairs)


def compactors(model):
    return list(compactors_by_site(recording_of(model)).values())


def scramble(model, seed=0):
    """Kernels of compactors far from the identity, not symmetric."""
    generator = np.random.default_rng(seed)
    for layer in compactors(model):
        noise = generator.normal(0.0, 0.3, layer.kernel.shape)
        layer.kernel.assign(keras.ops.convert_to_numpy(layer.kernel) + noise)


def random_keep(graph, groups, seed, share=0.4):
    """A random keep array that leaves each producer, and each part that is read, a channel."""
    generator = np.random.default_rng(seed)
    kept = np.ones(graph.num_channels, bool)
    for group in groups:
        free = group.channels[~group.pinned]
        kept[free] = generator.uniform(size=len(free)) > share
    return graph.with_one_each(kept)


def kill(model, kept, channel_state=None):
    """Mask channels and set their columns to zero."""
    channel_state = channel_state or ChannelState(model)
    channel_state.set_masks(kept)
    for layer in compactors(model):
        mask = keras.ops.cast(layer.keep_mask, layer.kernel.dtype)
        layer.kernel.assign(layer.kernel * mask)


def masked(name, seed, coupled=True):
    """A wrapped model with random dead channels, its channel_state and the keep array."""
    method = resrep_keras.ResRep(0.01, coupled=coupled)
    model = resrep_keras.wrap(zoo.build(name), method)
    channel_state = ChannelState(model)
    kept = random_keep(channel_state.graph, channel_state.groups, seed)
    kill(model, kept, channel_state)
    return model, channel_state, kept


def method_id(method):
    """A short name that tells settings apart."""
    parts = [type(method).__name__, getattr(method, "compactor", ""), "coupled" * method.coupled]
    return "-".join(part for part in parts if part)


def remove_zero_channels(model):
    """A model without the channels whose weights are all zero; itself where nothing goes."""
    slim = without_zero_channels(resrep_keras.trace(model))
    return model if slim is None else slim


def check_random_removal(wrapped, state):
    """Half of the channels go, exactly and as planned; what is left is of Keras's own classes.

    Args:
        wrapped: A wrapped model; it is changed.
        state: Its `ChannelState`.
    """
    scramble(wrapped)
    kept = random_keep(state.graph, state.groups, 0, share=0.5)
    kill(wrapped, kept, state)
    wrapped.method = None  # any masks, whatever the target
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-4
    assert difference(wrapped, slim) <= 1e-4
    assert state.cost()(kept) == resrep_keras.count_macs(slim) < state.cost()()
    again = keras.Model.from_config(slim.get_config())  # of Keras's own classes
    again.set_weights(slim.get_weights())
    assert difference(slim, again) == 0
