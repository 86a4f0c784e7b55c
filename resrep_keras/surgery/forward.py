"""Run a model on random inputs."""

import zlib

import keras
import numpy as np
from keras import ops

from resrep_keras.common.checks import came
from resrep_keras.common.training_flag import has_training_argument
from resrep_keras.graph.draw import draw
from resrep_keras.graph.sizes import leaves_open, sized
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import inputs_of
from resrep_keras.keras_adapter import (
    call_with_values,
    input_like,
    input_name,
    is_layer,
    is_optional,
)


def explain_difference(difference):
    """What to add to a message that tells a difference of outputs."""
    return (
        ""
        if np.isfinite(difference)
        else " The outputs are not finite: training has diverged. Lower the learning rate."
    )


def run(model, inputs):
    """Outputs in inference, in the model's structure, as float64 arrays."""
    return keras.tree.map_structure(as_numbers, model(inputs, training=False))


def as_numbers(value):
    """A tensor as a float64 array; texts become numbers, equal ones where the texts are equal."""
    array = np.asarray(ops.convert_to_numpy(value))
    if array.dtype.kind in "OSU":
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel()]
        array = np.reshape([zlib.crc32(text) for text in texts], array.shape)
    return array.astype(np.float64)


def check_data(model, data, name="data", any_number=False):
    """Return inputs of a model as tensors, in the structure in which it is called.

    Args:
        model: The model.
        data: What was given. A dict goes by the names of the inputs where the model takes no dict.
        name: That of the argument.
        any_number: Whether a model that is made for one batch size may be given more or fewer
            examples. Defaults to `False`.

    Raises:
        TypeError: Something else than arrays.
        ValueError: Arrays of another structure or other shapes than those of the inputs.
    """
    tensors = inputs_of(model)
    wanted = keras.tree.map_structure(lambda tensor: tuple(tensor.shape), tensors)
    given = keras.tree.flatten(_by_names(tensors, data))
    words = (
        f"Expected {name} to be arrays of the shapes {wanted}, as model '{model.name}' takes them"
    )
    if len(given) != len(keras.tree.flatten(tensors)):
        raise ValueError(f"{words}; {came(data)}.")
    arrays = [
        _as_input(tensor, value, words, any_number)
        for tensor, value in zip(keras.tree.flatten(tensors), given)
    ]
    return keras.tree.pack_sequence_as(tensors, arrays)


def _by_names(tensors, data):
    """Inputs in the order of the model where they are a dict by names and the model takes none."""
    names = [input_name(tensor) for tensor in keras.tree.flatten(tensors)]
    if isinstance(tensors, dict) or not isinstance(data, dict) or not data.keys() >= set(names):
        return data
    return [data[name] for name in names]


def _as_input(tensor, value, words, any_number):
    if tensor.sparse or tensor.dtype == "string" or (value is None and is_optional(tensor)):
        return value
    try:
        array = ops.convert_to_tensor(value, dtype=tensor.dtype)
    except Exception as error:  # whatever the backend says of what is no array
        raise TypeError(f"{words}; {came(value)}.") from error
    shape, known = tuple(array.shape), tuple(tensor.shape)
    known = (None, *known[1:]) if any_number and known else known
    if len(shape) != len(known) or any(
        None not in (here, there) and here != there for here, there in zip(shape, known)
    ):
        raise ValueError(f"{words}; got an array of shape {shape}.")
    return array


def play(recording, inputs, batch_statistics=False, around=None):
    """What `run` returns, call by call: each value is let go of after its last use.

    Keras keeps all of them to the end, gigabytes for a large model.

    Args:
        recording: The `Recording` of a built Keras model; no variable changes.
        inputs: Its inputs.
        batch_statistics: Whether batch normalisation goes by this batch, as in training, and not by
            its moving averages.
        around: ``around(recorded, run, *args, **kwargs)`` stands for each call; it makes the call
            itself by ``run(recorded, *args, **kwargs)``.
    """
    # Moving averages stay as they are.
    given = recording, inputs, batch_statistics, around
    outputs, _ = call_with_values(replay, (), *given)
    return keras.tree.map_structure(as_numbers, outputs)


def replay(recording, inputs, batch_statistics=False, around=None):
    """What `play` returns, as tensors; also while a function is traced."""

    def run(recorded, *args, **kwargs):
        operation = recorded.operation
        if not is_layer(operation):
            return operation.call(*args, **kwargs)
        if has_training_argument(operation):
            trains = batch_statistics and isinstance(operation, keras.layers.BatchNormalization)
            kwargs = {**kwargs, "training": trains}
        return operation(*args, **kwargs)

    def call(recorded, *args, **kwargs):
        if around is None:
            return run(recorded, *args, **kwargs)
        return around(recorded, run, *args, **kwargs)

    return recording.run(inputs, call)


def evaluate(recording, inputs, before=None, behind=None, instead=None):
    """Play a recording on arrays in inference, and look at what passes by.

    Args:
        recording: The `Recording`.
        inputs: Its inputs.
        before: Called as ``before(recorded, first input)`` in front of each call.
        behind: ``behind(recorded tensor, value)`` returns what goes on in the place of the value of
            a call. Defaults to the value itself.
        instead: ``instead(recorded, first input)`` returns values that stand for those of a call,
            which is not made then, or `None`. Defaults to `None` for all.

    What an inner recording does at each entry of axis 1 is done for the first entry only: enough
    for what does not depend on the input.
    """

    def call(recorded, *args, **kwargs):
        first = keras.tree.flatten((args, kwargs))[0]
        if recorded.inner is None:
            if before is not None:
                before(recorded, first)
            values = None if instead is None else instead(recorded, first)
            if values is None:
                run_call = (
                    recorded.operation if is_layer(recorded.operation) else recorded.operation.call
                )
                values = keras.tree.flatten(run_call(*args, **kwargs))
            if behind is not None:
                values = map(behind, keras.tree.flatten(recorded.outputs), values)
            return list(values)
        outputs = recorded.inner.run(first[:, 0], call)
        times = first.shape[1]
        return keras.tree.map_structure(
            lambda value: ops.repeat(ops.expand_dims(value, 1), times, axis=1), outputs
        )

    return recording.run(inputs, call)


def example_inputs(model, batch_size=2, seed=0, size=64, input_shape=None):
    """Random inputs in the structure of `model.input`.

    Unknown sizes become `size`, or twice or four times as much where that is too small.
    """
    tensors = inputs_of(model)
    if leaves_open(tensors):
        sizes = (size, 2 * size, 4 * size)
        size = fitting_sizes(recording_of(model, input_shape), sizes, input_shape)[0]
    return random_inputs(tensors, batch_size, seed, size, input_shape)


def fitting_inputs(recording, batch_size=2, input_shape=None, sizes=(64, 128, 256)):
    """Random inputs of a recording, of the first of the sizes that fit, see `fitting_sizes`."""
    size = fitting_sizes(recording, sizes, input_shape)[0]
    return random_inputs(recording.inputs, batch_size, 0, size, input_shape)


def fitting_sizes(recording, sizes, input_shape=None):
    """Those sizes for what a recording leaves open of which each call makes some; else all.

    An image that is smaller than the kernel of a convolution is no error everywhere: TensorFlow
    may answer with what stands in memory by chance.
    """
    if not leaves_open(recording.inputs):
        return sizes[:1]
    drawn = ((size, random_inputs(recording.inputs, 2, 0, size, input_shape)) for size in sizes)
    return [size for size, inputs in drawn if _leaves_some(recording, inputs)] or sizes


def _leaves_some(recording, inputs):
    def call(recorded, *args, **kwargs):
        made = recorded.operation.compute_output_spec(*args, **kwargs)
        if any(0 in tensor.shape for tensor in keras.tree.flatten(made)):
            raise ValueError("Nothing is left.")
        return made

    specs = keras.tree.map_structure(
        lambda tensor, value: None if value is None else input_like(tensor, value.shape),
        recording.inputs,
        inputs,
    )
    try:
        recording.run(specs, call)
    except Exception:  # whatever a layer, or its backend, says of what is too small for it
        return False
    return True


def random_inputs(tensors, batch_size=2, seed=0, size=64, input_shape=None):
    """Random arrays in the structure of symbolic tensors; unknown sizes become `size`.

    Args:
        tensors: The symbolic tensors.
        batch_size, seed, size: As they are named.
        input_shape: Sizes that the tensors leave open, see `resrep_keras.graph.sizes`.
    """
    generator = np.random.default_rng(seed)

    return keras.tree.map_structure(
        lambda tensor: draw(tensor, generator, batch_size, size), sized(tensors, input_shape)
    )
