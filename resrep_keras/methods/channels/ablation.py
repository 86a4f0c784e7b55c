"""Damage of ablated channels, measured at the next layer while a model trains.

With `x` what a layer `F` reads and `x'` the same with some channels zero, the damage is

```
t = sum (F(x) - F(x'))**2 / sum F(x)**2
```

over the whole batch, `F` with the batch normalisation, compactor and activation right behind it.
Nothing further on sees `x'`, so that all layers are measured in one pass (Ding et al., ICML 2019).
"""

import collections
import dataclasses
import functools

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.common.quiet import call_quietly
from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import has_state, operation_classes
from resrep_keras.layers.compactor import Compactor
from resrep_keras.layers.scored import ScoredCompactor


@dataclasses.dataclass(frozen=True)
class Reader:
    """A layer that reads channels of a searched group, and what stands right behind it.

    Args:
        name: Name of its call.
        position: Which of its inputs has the channels.
        axis: Their axis.
        places: For each channel along it, its place in the group's compactor, or -1.
        chain: Names of the calls whose last output is compared; `name` is the first.
    """

    name: str
    position: int
    axis: int
    places: np.ndarray
    chain: tuple


@dataclasses.dataclass(frozen=True)
class Search:
    """A group whose least important channels are searched for.

    Args:
        group: The `ChannelGroup`.
        compactor: The `ScoredCompactor` that holds the state of the search.
        ids: Channel ids of the compactor's channels, -1 where one is not of the group.
        readers: The `Reader`s of its channels.
    """

    group: object
    compactor: ScoredCompactor
    ids: np.ndarray
    readers: tuple


def searches_of(channel_state):
    """The `Search`es of a wrapped model: one for each group that can be searched.

    Left out are groups whose channels are scaled inside a layer (recurrent units, heads), or read
    where nothing can be measured: inside a layer that is applied at each entry of an axis, or by
    one that does something else in training, with dropout or a state of its own.
    """
    return [search for search in _ask(channel_state).values() if isinstance(search, Search)]


def unmeasured(channel_state):
    """``{name of a group: why it cannot be searched}``."""
    return {name: why for name, why in _ask(channel_state).items() if isinstance(why, str)}


def _ask(channel_state):
    """For each group its `Search`, or why there is none."""
    graph, behind = channel_state.graph, {}
    for call in graph.calls:
        for tensor in call.input_ids:
            behind.setdefault(tensor, []).append(call)
    outside = {s.name: _repeatable(s.operation) for s in graph.recording.calls if s.inner is None}
    return {
        group.name: _search(channel_state, group, behind, outside) for group in channel_state.groups
    }


def _search(channel_state, group, behind, outside):
    for layer, ids in channel_state.compactors:
        if isinstance(layer, ScoredCompactor) and np.isin(group.channels, ids).all():
            break
    else:
        return "no compactor has all of its channels"
    ids = np.where(np.isin(ids, group.channels), ids, -1)
    readers = _readers(channel_state.graph, behind, group.channels, ids)
    if not readers:
        return "no weights read its channels"
    for reader in readers:
        if not outside.get(reader.name):
            return f"'{reader.name}', which reads its channels, cannot be called twice in a step"
    return Search(group, layer, ids, tuple(readers))


def _takes_training(recorded):
    """Whether a call is told that the model trains.

    As in Keras, the call of the model overrules what its graph says, be it a default of the layer.
    """
    return has_training_argument(recorded.operation)


def _repeatable(operation):
    # Vectors of a spectral normalisation, states, and the seeds of a dropout inside.
    return not has_state(operation)


def _readers(graph, behind, channels, ids):
    place = np.full(graph.num_channels + 1, -1)  # the last entry stands for id -1
    place[ids[ids >= 0]] = np.flatnonzero(ids >= 0)
    readers, calls = {}, collections.Counter(call.name for call in graph.calls)
    for call in graph.calls:
        for position, axis in call.consumed.items():
            ids_read = graph.channel_of[call.inputs[position].labels_along(axis)]
            if np.isin(ids_read, channels).any():
                places = np.where(np.isin(ids_read, channels), place[ids_read], -1)
                # Of a layer that is called twice, what comes behind may not come in the same order.
                chain = _chain(behind, call) if calls[call.name] == 1 else (call.name,)
                reader = Reader(call.name, position, axis, places, chain)
                readers[call.name, position] = reader
    return list(readers.values())


def _chain(behind, call):
    """Names of a call and of those right behind it that are part of the measured block."""
    chain = [call.name]
    while True:
        others = [other for tensor in call.output_ids for other in behind.get(tensor, ())]
        if len(others) != 1:
            return tuple(chain)
        call = others[0]
        if not rule_of(part_of_block, call.operation)(call.operation):
            return tuple(chain)
        chain.append(call.name)


@functools.singledispatch
def part_of_block(operation):
    """Whether an operation right behind a layer is measured with it."""
    del operation
    return False


# Raw operations that are activations.
ACTIVATIONS = operation_classes(
    *"relu relu6 leaky_relu elu selu celu gelu silu softplus softsign sigmoid log_sigmoid tanh "
    "hard_sigmoid hard_silu hard_tanh".split()
)


@register_all(part_of_block, layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU)
@register_all(part_of_block, layers.BatchNormalization, layers.PReLU, *ACTIVATIONS)
@register_all(part_of_block, Compactor, ScoredCompactor)
def _belongs(operation):
    del operation
    return True


@functools.singledispatch
def replay(operation, x):
    """The output of a part of a measured block in training, without changing its state."""
    return call_quietly(operation, x)


@replay.register
def _normalise(operation: layers.BatchNormalization, x):
    """Statistics of this batch, as on the path that trains; moving averages stay as they are."""
    if not operation.trainable:
        return call_quietly(operation, x, training=False)
    axis = operation.axis % len(x.shape)
    single = ops.cast(x, "float32")
    mean, variance = ops.moments(single, axes=[a for a in range(len(x.shape)) if a != axis])
    normal = ops.batch_normalization(
        single,
        mean,
        variance,
        axis,
        offset=None if operation.beta is None else ops.cast(operation.beta, "float32"),
        scale=None if operation.gamma is None else ops.cast(operation.gamma, "float32"),
        epsilon=operation.epsilon,
    )
    return ops.cast(normal, x.dtype)


class Ablation:
    """Runs a wrapped model in training, and measures the damage of ablated channels.

    Args:
        model: The model.
        channel_state: Its `ChannelState`.
    """

    def __init__(self, model, channel_state):
        self.channel_state = channel_state
        self.searches = searches_of(channel_state)
        self._recording = recording_of(model, whole=True)
        self._recorded = {recorded.name: recorded for recorded in self._recording.calls}
        self._modal = {
            name for name, recorded in self._recorded.items() if _takes_training(recorded)
        }
        # By the call at which a reader's block ends, and by the reader itself.
        self._starts, self._ends = {}, {}
        for number, search in enumerate(self.searches):
            for reader in search.readers:
                self._starts[reader.name] = reader
                self._ends.setdefault(reader.chain[-1], []).append((number, reader))

    def __call__(self, inputs):
        """Outputs of the model, in training; damages are noted in the compactors."""
        arguments, squares = {}, [[] for _ in self.searches]
        drawn = [search.compactor.draw() for search in self.searches]

        def call(recorded, *args, **kwargs):
            if recorded.name in self._modal:
                kwargs = {**kwargs, "training": True}
            outputs = recorded.operation(*args, **kwargs)
            if recorded.name in self._starts:
                arguments[recorded.name] = args, kwargs
            for number, reader in self._ends.get(recorded.name, ()):
                compactor = self.searches[number].compactor
                measure = functools.partial(
                    self._measure, reader, drawn[number], arguments[reader.name], outputs
                )
                # Once the search is over, nothing is computed twice.
                both = ops.cond(compactor.searching(), measure, lambda: ops.zeros((2,)))
                squares[number].append(ops.unstack(both, num=2))
            return outputs

        outputs = self._recording.run(inputs, call)
        for search, drop, parts in zip(self.searches, drawn, squares):
            going = ops.cast(search.compactor.searching(), "float32")
            # What a channel does to each of its readers adds up: a stream has many.
            damage = sum(changed / ops.maximum(whole, 1e-30) for changed, whole in parts)
            search.compactor.note(drop * going, damage)
        return outputs

    def _measure(self, reader, drawn, arguments, outputs):
        """Sums of `(y - y')**2` and `y**2`, as a tensor `(2,)`."""
        args, kwargs = arguments
        padded = ops.concatenate([1.0 - drawn, ops.ones((1,))])
        kept = ops.take(padded, ops.convert_to_tensor(reader.places % padded.shape[0]), axis=0)
        tensors = [x for x in keras.tree.flatten((args, kwargs)) if ops.is_tensor(x)]
        target = tensors[reader.position]
        shape = [1] * len(target.shape)
        shape[reader.axis] = -1
        ablated = target * ops.cast(ops.reshape(kept, shape), target.dtype)
        args, kwargs = keras.tree.map_structure(
            lambda x: ablated if x is target else x, (args, kwargs)
        )
        y = call_quietly(self._recorded[reader.name].operation, *args, **kwargs)
        for name in reader.chain[1:]:
            operation = self._recorded[name].operation
            y = rule_of(replay, operation)(operation, y)
        before, after = (
            ops.cast(keras.tree.flatten(value)[0], "float32") for value in (outputs, y)
        )
        return ops.stack([ops.sum(ops.square(before - after)), ops.sum(ops.square(before))])
