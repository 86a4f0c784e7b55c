"""Pins: which node keeps channels, why, and what a user can do about it."""

import dataclasses
import enum


class PinKind(enum.Enum):
    """Why channels are kept; the value says what a user can do."""

    OUTPUT = "nothing: the channels are the model's answer."
    INPUT = (
        "nothing where the input is added to as it is; put a convolution or dense layer between "
        "the input and the sum, and its channels may go."
    )
    SINGLE = "nothing: a layer keeps at least one channel."
    NO_RULE = (
        "register what the layer does with channels, which trying it has not shown; see "
        "resrep_keras.graph.flow."
    )
    NO_SITE = (
        "let the layer's rule call `call.site` behind `call.produce`; see resrep_keras.graph.call."
    )
    SHARED = (
        "use a layer of its own for each call, or call it on tensors that share their channels."
    )
    READ = (
        "nothing where weights are meant to be tied; else give what reads them weights of its own."
    )
    INEXACT = (
        "exact=False allows it; removing channels then changes outputs, and training makes up for "
        "it."
    )
    NO_BIAS = (
        "let removed channels be zero here: put a BatchNormalization behind the activation in "
        "front of it, use an activation with f(0) = 0 (relu, swish, tanh), or padding='valid' in a "
        "convolution. A layer that is called more than once has one bias for all calls: use one "
        "layer per call."
    )
    UNKNOWN_SIZE = "give input_shape, or build the model for a fixed input size."
    MIXES = (
        "nothing where it is the model's last softmax; else use an activation that works on each "
        "entry by itself."
    )
    UNTRIED = (
        "let the function take arrays of any number of channels, with keras.ops inside; one that "
        "needs more is a layer of its own, for which a rule can be registered: see "
        "resrep_keras.graph.flow."
    )
    NOT_FINITE = (
        "let what the function reads be above zero where a channel is removed, as in "
        "ops.log(x + 1e-3); all other channels are pruned as before."
    )
    BROADCAST = (
        "nothing where a single channel scales all others; else give both tensors the same number "
        "of channels, by a convolution or dense layer."
    )
    AXES = (
        "nothing where the layer is meant to mix positions: channels of the layers around it are "
        "pruned as before; else move the channels to the axis along which it works (Permute)."
    )
    FROZEN = "set trainable=True, if its weights may change; see docs/frozen.md."
    LORA = (
        "merge the LoRA weights into the kernel before pruning: call save_weights() on the model, "
        "and load_weights() on the same model made without enable_lora()."
    )
    QUANTISED = "prune the float model, and quantise the slim one: slim.quantize(...)."
    STATEFUL = "build the layer with stateful=False."
    OTHER = (
        "replace it with layers that treat each channel by itself, or move it to where fewer "
        "channels pass; all other channels are pruned as before."
    )


@dataclasses.dataclass(frozen=True)
class Pin:
    """What keeps channels; its `str` is "<layer>: <text>".

    Args:
        layer: Name of the node that keeps them.
        text: Why, in words that complete "Pinned by <layer>: ...".
        kind: Its `PinKind`.
        own_remedy: What a user can do, where the kind does not say it well enough.
    """

    layer: str
    text: str
    kind: PinKind = PinKind.OTHER
    own_remedy: str | None = None

    @property
    def remedy(self):
        """What a user can do about it."""
        return self.own_remedy or self.kind.value

    def __str__(self):
        return f"{self.layer}: {self.text}"
