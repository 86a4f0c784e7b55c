"""One more call of an operation, of which nothing but the outputs is left."""

import keras

from resrep_keras.keras_adapter import call_with_values, is_layer


def call_quietly(operation, *args, **kwargs):
    """Outputs of a call that changes no variable and adds no loss."""
    if not is_layer(operation):
        return operation(*args, **kwargs)
    values = [(v, keras.ops.convert_to_tensor(v)) for v in operation.variables]
    return call_with_values(operation, values, *args, **kwargs)[0]
