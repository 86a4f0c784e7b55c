"""Gated: a layer whose inner channels can be forgotten, such as the units of an LSTM."""

import functools

import keras
from keras import layers, ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.keras_adapter import call_with_values
from resrep_keras.layers.compactor import Compactor
from resrep_keras.rules.sequences import CONV_RECURRENT, RECURRENT


@functools.singledispatch
def gate_factors(layer, gates):
    """Return what each weight of `layer` is multiplied with.

    Args:
        layer: The layer.
        gates: ``{name: vector (channels,)}``; with a zero, the channel must vanish. A name may be
            missing, where none of its channels goes.

    Returns:
        One tensor for each entry of `layer.weights` that broadcasts against it, or `None`.
    """
    raise ValueError(
        f"{type(layer).__name__} '{layer.name}' has no rule for gates. Register one with "
        f"resrep_keras.layers.gated.gate_factors.register({type(layer).__name__})."
    )


@keras.saving.register_keras_serializable("resrep_keras")
class Gated(keras.layers.Layer):
    """Runs a layer with some of its weights scaled by diagonal compactors.

    What a compactor behind the layer could not remove, because it feeds back into the layer or
    never leaves it, is scaled inside. `resrep_keras.finalize` multiplies the gates into the
    weights.

    Args:
        layer: A layer that has a rule in `gate_factors`.
        gates: ``{name: number of channels}``.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        gates: ``{name: Compactor}``, each diagonal.
    """

    def __init__(self, layer, gates, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = True
        self.gates = {}
        for name, channels in gates.items():
            gate = Compactor(
                diagonal=True, dtype=self.dtype_policy, name=f"{self.name}_{name}_compactor"
            )
            gate.build((None, channels))
            self.gates[name] = gate

    def __call__(self, *args, **kwargs):
        if not self.layer.built:  # only the layer knows how to build itself
            self.layer(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def call(self, *args, **kwargs):
        rule = rule_of(gate_factors, self.layer)
        factors = rule(
            self.layer, {name: gate.masked_kernel() for name, gate in self.gates.items()}
        )
        by_weight = {id(w): f for w, f in zip(self.layer.weights, factors) if f is not None}
        values = []
        for variable in self.layer.variables:
            value = ops.convert_to_tensor(variable)
            if id(variable) in by_weight:
                value = value * ops.cast(by_weight[id(variable)], value.dtype)
            values.append((variable, value))
        outputs, changes = call_with_values(self.layer, values, *args, **kwargs)
        for variable, value in changes:  # the state of random generators, say
            if not variable.trainable:
                variable.assign(value)
        return outputs

    def compute_mask(self, inputs, previous_mask):
        return self.layer.compute_mask(inputs, previous_mask)

    def get_build_config(self):
        return {"layer": self.layer.get_build_config()}

    def build_from_config(self, config):
        if not self.layer.built:
            self.layer.build_from_config(config["layer"])
        self.built = True

    def get_config(self):
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "gates": {name: gate.kernel.shape[0] for name, gate in self.gates.items()},
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["layer"] = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**config)


# Position of the candidate values among the gates of a recurrent layer's kernel.
CANDIDATE = {
    layers.LSTM: (2, 4),
    layers.GRU: (2, 3),
    layers.SimpleRNN: (0, 1),
    **{kind: (2, 4) for kind in CONV_RECURRENT},
}


def candidate_of(layer):
    """Position of the candidate values in a recurrent layer's kernel, and the number of parts."""
    return next(CANDIDATE[kind] for kind in type(layer).__mro__ if kind in CANDIDATE)


def _recurrent_factor(layer, gate):
    position, number = candidate_of(layer)
    parts = [ops.ones_like(gate)] * number
    parts[position] = gate
    return ops.concatenate(parts)


def _is_kernel(weight):
    return weight.path.endswith(("kernel", "bias"))


def _recurrent(layer, gates):
    """Candidate values before their activation: at zero, the state stays zero."""
    factor = _recurrent_factor(layer, gates["units"])
    return [factor if _is_kernel(weight) else None for weight in layer.weights]


for _kind in (*RECURRENT, *CONV_RECURRENT):
    gate_factors.register(_kind)(_recurrent)


@gate_factors.register
def _bidirectional(layer: layers.Bidirectional, gates):
    factor = _recurrent_factor(layer.forward_layer, gates["units"])
    return [factor if _is_kernel(weight) else None for weight in layer.weights]


def part_of(weight):
    """The last two parts of a weight's path: `value/kernel`."""
    return "/".join(weight.path.split("/")[-2:])


def _attention_factors(layer, heads, match, width):
    """A head or width vanishes with its values, a width of the keys with those of the query."""
    value = width if heads is None else heads[:, None] * (1.0 if width is None else width)
    factors = {"query/kernel": match, "query/bias": match}
    factors |= {"value/kernel": value, "value/bias": value}
    return [factors.get(part_of(weight)) for weight in layer.weights]


@gate_factors.register
def _multi_head(layer: layers.MultiHeadAttention, gates):
    both = gates.get("width")
    match, width = gates.get("key", both), gates.get("value", both)
    return _attention_factors(layer, gates.get("heads"), match, width)


@gate_factors.register
def _grouped_query(layer: layers.GroupQueryAttention, gates):
    width = gates.get("width")
    return _attention_factors(layer, gates.get("heads"), width, width)
