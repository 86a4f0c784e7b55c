"""judged(model, ...): the loss and metrics of what a file answers, as `evaluate` tells them."""

import functools
import warnings

import keras
import numpy as np
from keras import layers

from resrep_keras.deploy.quality import check_test_data, compiled_as, evaluate, in_pairs
from resrep_keras.deploy.reading import outputs_of
from resrep_keras.deploy.samples import labelled_batches
from resrep_keras.graph.unroll import as_functional


def check_judge(model, data):
    """Raise where the outputs of a file of a model cannot be judged.

    Raises:
        TypeError: Data that can be read once only, such as a generator, or are no arrays.
        ValueError: The model is not compiled, in a way that can be copied; the data never end, or
            do not fit the inputs.
    """
    check_test_data(model, data)
    if not model.compiled:
        raise ValueError(
            f"Expected model '{model.name}' to be compiled with the loss and metrics that say what "
            "quality is; got one that is not. Call compile(loss=..., metrics=[...]), or give no "
            "test_data."
        )
    _judge(model)


def judged(model, answer, data, own=None):
    """Judge a file beside its model, both by their outputs alone.

    Args:
        model: The model, compiled.
        answer: A function of inputs of the model that returns the flat outputs of the file.
        data: What `evaluate` takes and can be read twice.
        own: The same of the model. Defaults to what it answers itself.

    Returns:
        ``{name: (value of the model, value of the file)}``, with the names that `evaluate` gives.
        A loss is without what regularizers add.
    """

    own = own or functools.partial(outputs_of, model)
    judge = _judge(model)
    return in_pairs(*(_told(judge, model, each, data) for each in (own, answer)))


def _told(judge, model, answer, data):
    types = [np.dtype(tensor.dtype) for tensor in judge.inputs]

    def batches():
        for inputs, y, weight in labelled_batches(model, data):
            found = [np.asarray(v).astype(t) for v, t in zip(answer(inputs), types, strict=True)]
            yield found, y, weight

    if isinstance(data, (tuple, list)):  # evaluated as it would be, by Keras's own batches
        found = [np.concatenate(parts) for parts in zip(*(found for found, _, _ in batches()))]
        return evaluate(judge, (_one_or_all(found), *data[1:]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")  # told of any generator
        return evaluate(judge, (_batch(*each) for each in batches()))


def _batch(found, y, weight):
    return tuple(_as_tuple(v) for v in (_one_or_all(found), y, weight) if v is not None)


def _one_or_all(found):
    return found[0] if len(found) == 1 else found


def _as_tuple(value):
    """A list as a tuple: TensorFlow would take it for one tensor."""
    return tuple(value) if type(value) is list else value


def _judge(model):
    """A model that reads the outputs of another one, under their names, compiled as that one is."""
    functional = as_functional(model)
    flat, names = keras.tree.flatten(functional.output), functional.output_names
    unique = len(set(names)) == len(names)

    def read(tensor, name):
        dtype = "float32" if "float" in tensor.dtype else tensor.dtype
        fresh = keras.Input(batch_shape=(None, *tensor.shape[1:]), dtype=dtype)
        return fresh, layers.Identity(name=name if unique else None, dtype=dtype)(fresh)

    pairs = [read(tensor, name) for tensor, name in zip(flat, names)]
    inputs, outputs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    packed = keras.tree.pack_sequence_as(functional.output, outputs)
    return compiled_as(model, keras.Model(inputs, packed, name=model.name))
