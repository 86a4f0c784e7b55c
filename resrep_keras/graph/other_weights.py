"""Layers that compute with other weights than their class does: LoRA, and quantised ones."""

from resrep_keras.graph.composite import sublayers
from resrep_keras.graph.pins import PinKind
from resrep_keras.keras_adapter import is_layer


def other_weights(operation):
    """Why the rule of a layer's class does not hold, as text and `PinKind`; `None` where it does.

    Layers inside count: Keras quantises those of an attention, say.
    """
    if not is_layer(operation):
        return None
    for layer in (operation, *sublayers(operation)):
        # Those that can have neither lack the attributes, as all do in some versions of Keras.
        if getattr(layer, "lora_enabled", False):
            return "a layer with LoRA weights beside its kernel", PinKind.LORA
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None:
            return f"a layer quantised to {mode}", PinKind.QUANTISED
    return None
