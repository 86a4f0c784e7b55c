"""Play a model as if channels of it were zero where compactors would stand."""

import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.keras_adapter import call_with_values
from resrep_keras.layers.gated import gate_factors
from resrep_keras.surgery.heads import without_activation


class AtSites:
    """What stands for the calls of a model in `play`: its channels are scaled at their sites.

    Args:
        graph: The `ChannelGraph` of the model.
        behind: ``{layer name: (what scales, channel axis)}`` of what stands behind layers.
        inside: ``{layer name: {name of channels: what scales}}`` of what layers hold inside.
    """

    def __init__(self, graph, behind, inside):
        self._behind, self._inside = behind, inside
        self._activations = {
            name: call.activation for name, call in graph.calls_by_name.items() if call.activates
        }

    def factors(self, what, examples=None):
        """Factors `(channels,)` of what scales; for so many examples, also `(examples, channels)`.

        Args:
            what: As it was given.
            examples: Length of the first axis of a tensor behind a layer; `None` inside of one.
        """
        raise NotImplementedError

    def __call__(self, recorded, run, *args, **kwargs):
        if recorded.inner is not None and self._concerns(recorded.inner):
            return self._at_each_entry(recorded.inner, run, *args, **kwargs)
        if recorded.name in self._inside:
            run = functools.partial(self._gated, run)
        if recorded.name not in self._behind:
            return run(recorded, *args, **kwargs)
        what, axis = self._behind[recorded.name]
        if self._activations.get(recorded.name) in (None, keras.activations.linear):
            return self._scaled(run(recorded, *args, **kwargs), what, axis)
        with without_activation(recorded.operation) as activation:
            outputs = run(recorded, *args, **kwargs)
        scaled = self._scaled(outputs, what, axis)
        return scaled if activation is None else activation(scaled)  # it is taken away already

    def _concerns(self, recording):
        return any(c.name in self._behind or c.name in self._inside for c in recording.all_calls())

    def _gated(self, run, recorded, *args, **kwargs):
        layer = recorded.operation
        inside = self._inside[recorded.name]
        gates = {name: ops.cast(self.factors(what), "float32") for name, what in inside.items()}
        values = [
            (weight, weight * ops.cast(factor, weight.dtype))
            for weight, factor in zip(layer.weights, rule_of(gate_factors, layer)(layer, gates))
            if factor is not None
        ]
        return call_with_values(run, values, recorded, *args, **kwargs)[0]

    def _at_each_entry(self, recording, run, *args, **kwargs):
        """Entries of axis 1 are told apart by nothing: they join the batch."""
        x = keras.tree.flatten((args, kwargs))[0]
        batch, times = x.shape[:2]

        def call(recorded, *args, **kwargs):
            return self(recorded, run, *args, **kwargs)

        outputs = recording.run(ops.reshape(x, (batch * times, *x.shape[2:])), call)
        return keras.tree.map_structure(
            lambda y: ops.reshape(y, (batch, times, *y.shape[1:])), outputs
        )

    def _scaled(self, value, what, axis):
        factors = self.factors(what, value.shape[0])
        shape = [1] * len(value.shape)
        shape[0] = 1 if len(factors.shape) == 1 else -1
        shape[axis] = factors.shape[-1]
        return value * ops.cast(ops.reshape(factors, shape), value.dtype)


class Masked(AtSites):
    """Removed channels are zero.

    Args:
        graph: The `ChannelGraph` of the model.
        kept: Bool, one for each channel id.
    """

    def __init__(self, graph, kept):
        behind, inside = {}, {}
        for site in (site for group in graph.groups for site in group.sites):
            mask = np.where(site.channels < 0, True, kept[np.maximum(site.channels, 0)])
            if mask.all():
                continue
            if site.inside is None:
                behind[site.layer] = mask, site.axis
            else:
                inside.setdefault(site.layer, {})[site.inside] = mask
        super().__init__(graph, behind, inside)

    def factors(self, what, examples=None):
        return ops.convert_to_tensor(what)
