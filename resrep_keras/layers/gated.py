"""Gated: a layer whose inner channels can be forgotten, such as the units of an LSTM."""

import functools
import inspect

import keras
from keras import ops

from resrep_keras.graph.composite import unlisted_variables
from resrep_keras.graph.flow import rule_of
from resrep_keras.keras_adapter import call_with_losses, is_array, is_layer
from resrep_keras.layers.compactor import Compactor


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
        args, kwargs = self._by_position(args, kwargs)
        if not self.layer.built:  # only the layer knows how to build itself
            self.layer(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def _by_position(self, args, kwargs):
        """Tensors that are given by name stand first: beside settings Keras takes none by name."""
        args, kwargs = list(args), dict(kwargs)
        for name in list(inspect.signature(self.layer.call).parameters)[len(args) :]:
            if not is_array(kwargs.get(name)):
                break
            args.append(kwargs.pop(name))
        return args, kwargs

    def call(self, *args, **kwargs):
        rule = rule_of(gate_factors, self.layer)
        factors = rule(
            self.layer, {name: gate.masked_kernel() for name, gate in self.gates.items()}
        )
        by_weight = {id(w): f for w, f in zip(self.layer.weights, factors) if f is not None}
        values = []
        for variable in (*self.layer.variables, *unlisted_variables(self.layer)):
            value = ops.convert_to_tensor(variable)
            if id(variable) in by_weight:
                value = value * ops.cast(by_weight[id(variable)], value.dtype)
            values.append((variable, value))
        outputs, changes, losses = call_with_losses(self.layer, values, *args, **kwargs)
        self.add_loss(losses)  # of activities, say: those of the scaled layer
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
        if not is_layer(config["layer"]):  # a layer itself, where a copy is made in memory
            config["layer"] = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**config)
