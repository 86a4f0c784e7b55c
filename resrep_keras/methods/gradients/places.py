"""Where activation gradients are pruned, and which convolutions that makes cheaper.

`role` is an open question: a layer of one's own is registered from outside,

    @role.register(MyConvolution)
    def _(layer):
        return Role.CONVOLUTION
"""

import dataclasses
import enum
import functools

import keras
from keras import layers

from resrep_keras.graph.flow import register_all, rule_of
from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.graph.trace import recording_of
from resrep_keras.keras_adapter import (
    activation_setting,
    is_layer,
    layer_classes,
    operation_classes,
)


class Role(enum.Enum):
    """What the backward pass of a layer does to the zeros of a gradient."""

    CONVOLUTION = enum.auto()  # could leave them out
    NORMALISATION = enum.auto()  # fills them in
    ACTIVATION = enum.auto()  # keeps them, and adds some
    PASSAGE = enum.auto()  # keeps them
    OTHER = enum.auto()  # unknown


@functools.singledispatch
def role(operation):
    """The `Role` of a layer or raw operation."""
    del operation
    return Role.OTHER


def role_of(operation):
    return rule_of(role, operation)(operation)


@register_all(
    role,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)
def _convolution(layer):
    del layer
    return Role.CONVOLUTION


@role.register
def _spectral(layer: layers.SpectralNormalization):
    return role_of(layer.layer)


NORMALISATIONS = "BatchNormalization GroupNormalization LayerNormalization RMSNormalization"


@register_all(role, *layer_classes(*NORMALISATIONS.split()))
def _normalisation(layer):
    del layer
    return Role.NORMALISATION


RAW_ACTIVATIONS = "relu relu6 leaky_relu elu selu celu silu gelu".split()


@register_all(
    role,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
    *operation_classes("activations.relu", *RAW_ACTIVATIONS),
)
def _activation(operation):
    del operation
    return Role.ACTIVATION


@register_all(
    role,
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Add,
    layers.Concatenate,
    *operation_classes("add", "concatenate"),
)
def _passage(operation):
    del operation
    return Role.PASSAGE


@register_all(role, layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)
def _average(layer):
    """Where windows overlap, the gradients that meet in one place are added."""
    return Role.PASSAGE if layer.strides == layer.pool_size else Role.OTHER


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the gradient of one convolution is pruned.

    Args:
        name: Name of the convolution.
        at: `"output"`, the gradient that comes into it, or `"input"`, the one it hands on.
        cheaper: Names of the convolutions that read the zeros, and nothing added to them.
    """

    name: str
    at: str
    cheaper: tuple


class Places:
    """Reads where a model's gradients can be pruned.

    A convolution in front of a normalisation reads a dense gradient, because the normalisation has
    filled the zeros of an activation in: it is pruned at its output. One in front of an activation
    reads that one's zeros and makes a dense gradient of them: it is pruned at its input, if other
    convolutions come before. What stands in a `TimeDistributed` is left alone.

    Args:
        model: A built Keras model.

    Attributes:
        recording: Its `Recording`.
    """

    def __init__(self, model):
        self.recording = recording_of(model)
        self._maker, self._readers, self._calls = {}, {}, {}
        for recorded in self.recording.calls:
            for tensor in keras.tree.flatten(recorded.outputs):
                self._maker[id(tensor)] = recorded
            for tensor in symbolic_tensors(recorded.args, recorded.kwargs):
                self._readers.setdefault(id(tensor), []).append(recorded)
            if role_of(recorded.operation) is Role.CONVOLUTION:
                self._calls.setdefault(recorded.name, []).append(recorded)
        self._outputs = {id(tensor) for tensor in keras.tree.flatten(self.recording.outputs)}

    @property
    def convolutions(self):
        """``{name: layer}``"""
        return {name: calls[0].operation for name, calls in self._calls.items()}

    @property
    def paths(self):
        """``{name of a convolution: names of the models and layers around it}``"""
        return {name: calls[0].path for name, calls in self._calls.items()}

    @property
    def names(self):
        """The names of all operations."""
        return {recorded.name for recorded in self.recording.all_calls()}

    def find(self):
        """The `Place` of each convolution that has one; calls of a shared one must agree."""
        places = []
        for name, calls in self._calls.items():
            kinds = {self._kind(recorded) for recorded in calls}
            if kinds == {"output"}:
                places.append(Place(name, "output", (name,)))
            elif kinds == {"input"}:
                sources = [self._sources(recorded) for recorded in calls]
                if all(sources):
                    alone = {n for found in sources for n, only in found.items() if only}
                    places.append(Place(name, "input", tuple(sorted(alone))))
        return places

    def _kind(self, recorded):
        readers = self._readers.get(id(recorded.outputs), [])
        roles = {role_of(reader.operation) for reader in readers}
        linear = (None, keras.activations.linear)
        inside = activation_setting(_inner(recorded.operation)) not in linear
        if Role.NORMALISATION in roles and not inside:
            return "output"
        return "input" if inside or roles == {Role.ACTIVATION} else None

    def _sources(self, recorded):
        """``{name: whether it reads these zeros alone}`` of the convolutions before a call."""
        found, seen = {}, set()
        ahead = [(symbolic_tensors(recorded.args, recorded.kwargs)[0], True)]
        while ahead:
            tensor, alone = ahead.pop()
            maker = self._maker.get(id(tensor))
            if maker is None or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            alone = (
                alone and len(self._readers[id(tensor)]) == 1 and id(tensor) not in self._outputs
            )
            kind = role_of(maker.operation)
            if kind is Role.CONVOLUTION:
                # A shared layer adds up what comes from all of its calls.
                found[maker.name] = alone and len(self._calls[maker.name]) == 1
            elif kind in (Role.ACTIVATION, Role.PASSAGE):
                ahead += [(t, alone) for t in symbolic_tensors(maker.args, maker.kwargs)]
        return found

    def gradients(self):
        """``{name: (of its weights, of its input)}``: which gradients training computes."""
        trained, wanted = set(), {}
        for recorded in self.recording.calls:
            tensors = symbolic_tensors(recorded.args, recorded.kwargs)
            before = any(id(tensor) in trained for tensor in tensors)
            own = is_layer(recorded.operation) and bool(recorded.operation.trainable_weights)
            if before or own:
                trained |= {id(tensor) for tensor in keras.tree.flatten(recorded.outputs)}
            if recorded.name in self._calls:
                weights, inputs = wanted.get(recorded.name, (False, False))
                wanted[recorded.name] = (weights or own, inputs or before)
        return wanted


def _inner(layer):
    """The layer that a wrapper such as `SpectralNormalization` holds."""
    return layer.layer if isinstance(layer, layers.Wrapper) else layer
