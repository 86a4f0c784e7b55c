"""Producers whose compactor stands behind the batch normalisation that reads them."""

import keras

from resrep_keras.graph.flow import is_linear


def deferred(calls_of, readers, outputs, frozen):
    """``{id of a layer: the batch normalisation}`` where that is all that reads the layer.

    Args:
        calls_of: ``{id of a layer: its Calls}``.
        readers: ``{id of a tensor: the Calls that read it}``.
        outputs: The tensors that are outputs of the model.
        frozen: Names of layers that take up nothing.
    """
    found = {}
    outputs = {id(tensor) for tensor in outputs}
    for key, calls in calls_of.items():
        reading = [readers.get(t, []) for c in calls for t in c.output_ids]
        norms = {id(r[0].operation): r[0].operation for r in reading if len(r) == 1}
        alone = len(norms) == 1 and all(len(r) == 1 for r in reading)
        if not alone or any(t in outputs for c in calls for t in c.output_ids):
            continue
        norm = next(iter(norms.values()))
        folds = isinstance(norm, keras.layers.BatchNormalization)
        folds = folds and reading[0][0].name not in frozen
        if folds and is_linear(calls[0].operation) and len(calls_of[id(norm)]) == len(calls):
            found[key] = norm
    return found
