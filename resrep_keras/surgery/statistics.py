"""retake_statistics: what batch normalisations have seen is seen anew."""

import keras
import numpy as np
from keras import ops

from resrep_keras.keras_adapter import is_frozen
from resrep_keras.surgery.examples import batch_size
from resrep_keras.surgery.forward import play


def retake_statistics(recording, examples, spared=()):
    """Give batch normalisations the mean and variance that they meet on examples.

    In one pass: in each batch, those in front have normalised by that batch, as in training. Those
    that are frozen, or read a mask, are left as they are.

    Args:
        recording: The `Recording` of a model; moving averages change, and nothing else.
        examples: The `Examples`.
        spared: Names of layers that are left as they are.

    Returns:
        The names of the layers whose statistics were taken.
    """
    seen = {}

    def around(recorded, run, *args, **kwargs):
        if takes_statistics(recorded, spared):
            seen.setdefault(recorded.name, _Seen(recorded.operation)).add(args[0])
        return run(recorded, *args, **kwargs)

    for inputs, _ in examples.batches(batch_size(recording)):
        play(recording, inputs, batch_statistics=True, around=around)
    return tuple(name for name, each in seen.items() if each.write())


def takes_statistics(recorded, spared=()):
    """Whether a call is that of a batch normalisation whose moving averages may change."""
    layer = recorded.operation
    return (
        isinstance(layer, keras.layers.BatchNormalization)
        and recorded.name not in spared
        and recorded.kwargs.get("mask") is None
        and not is_frozen(layer)
    )


def hand_on_statistics(graph, kept, before, after, names):
    """Give batch normalisations of a narrow model what is left of those of the whole one.

    Args:
        graph: `ChannelGraph` of the whole model.
        kept: Bool, one for each of its channel ids.
        before, after: `Recording`s of the whole model, or a copy of it, and of the narrow one.
        names: Names of the layers.
    """
    whole, narrow = ({each.name: each.operation for each in r.calls} for r in (before, after))
    for name in names:
        call = graph.calls_by_name[name]
        axis = whole[name].axis % len(call.input.shape)
        mask = graph.kept_labels(call.input.labels_along(axis), kept)
        old, new = whole[name], narrow[name]
        new.moving_mean.assign(ops.convert_to_numpy(old.moving_mean)[mask])
        new.moving_variance.assign(ops.convert_to_numpy(old.moving_variance)[mask])


class _Seen:
    """Sums over what a batch normalisation reads."""

    def __init__(self, layer):
        self._layer = layer
        self._sum = self._squares = 0.0
        self._number = 0

    def add(self, x):
        x = ops.cast(x, "float32")
        axes = [axis for axis in range(len(x.shape)) if axis != self._layer.axis % len(x.shape)]
        mean, variance = (
            np.asarray(ops.convert_to_numpy(value), np.float64) for value in ops.moments(x, axes)
        )
        number = int(np.prod([x.shape[axis] for axis in axes]))
        self._sum = self._sum + number * mean
        self._squares = self._squares + number * (variance + np.square(mean))
        self._number += number

    def write(self):
        """Hand the moments on to the layer; whether they are finite."""
        mean = self._sum / self._number
        variance = np.maximum(self._squares / self._number - np.square(mean), 0.0)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            return False
        self._layer.moving_mean.assign(mean.astype("float32"))
        self._layer.moving_variance.assign(variance.astype("float32"))
        return True
