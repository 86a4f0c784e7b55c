"""Layers that compute with other weights than their class does: LoRA, and quantised ones."""

from resrep_keras.graph.composite import sublayers
from resrep_keras.graph.pins import PinKind
from resrep_keras.keras_adapter import has_lora, is_layer, quantization_of


def other_weights(operation):
    """Why the rule of a layer's class does not hold, as text and `PinKind`; `None` where it does.

    Layers inside count: Keras quantises those of an attention, say.
    """
    if not is_layer(operation):
        return None
    for layer in (operation, *sublayers(operation)):
        if has_lora(layer):
            return "a layer with LoRA weights beside its kernel", PinKind.LORA
        if quantization_of(layer) is not None:
            return f"a layer quantised to {quantization_of(layer)}", PinKind.QUANTISED
    return None
