"""Runs TFLite flatbuffers."""

import time
import warnings

import keras
import numpy as np


def seconds_alone(content, threads=1, seconds=0.02, least=9):
    """Seconds of one call of a flatbuffer: the lower quartile, which other work disturbs least.

    Args:
        content: The flatbuffer, bytes.
        threads: Number of threads. Defaults to `1`.
        seconds: How long to measure. Defaults to `0.02`.
        least: Number of calls, at least. Defaults to `9`.
    """
    interpreter = _interpreter_class()(model_content=content, num_threads=threads)
    _prepare(interpreter)
    generator = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        value = generator.uniform(size=detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], value)
    for _ in range(3):
        interpreter.invoke()
    measured, end = [], time.perf_counter() + seconds
    while len(measured) < least or time.perf_counter() < end:
        begin = time.perf_counter()
        interpreter.invoke()
        measured.append(time.perf_counter() - begin)
    return float(np.quantile(measured, 0.25))


class TFLiteRunner:
    """Runs a flatbuffer made by `to_tflite` by the names of its signature.

    Inputs and outputs in integers that stand for floats are given and returned as these floats.

    Args:
        content: The flatbuffer, bytes.
        threads: Number of threads. Defaults to `1`.
    """

    def __init__(self, content, threads=1):
        self._interpreter = _interpreter_class()(model_content=content, num_threads=threads)
        signature = self._interpreter.get_signature_runner()
        self._inputs = signature.get_input_details()
        self._outputs = signature.get_output_details()

    def set_inputs(self, arrays):
        """Set the inputs, ``{name: array}``.

        Raises:
            ValueError: Other names than those of the file; a file that cannot be prepared.
        """
        if set(arrays) != set(self._inputs):
            raise ValueError(
                f"Expected the inputs {', '.join(sorted(self._inputs))}; got "
                f"{', '.join(sorted(arrays))}."
            )
        values = {}
        for name, array in arrays.items():
            detail = self._inputs[name]
            values[detail["index"]] = _quantized(keras.ops.convert_to_numpy(array), detail)
        for index, value in values.items():  # sizes that the file leaves open
            self._interpreter.resize_tensor_input(index, value.shape)
        _prepare(self._interpreter)
        for index, value in values.items():
            self._interpreter.set_tensor(index, value)

    def random_inputs(self, batch_size=1):
        """Random inputs, ``{name: array}``; other sizes that are left open are 64."""
        generator = np.random.default_rng(0)
        shapes = {name: detail["shape_signature"] for name, detail in self._inputs.items()}
        return {
            name: generator.uniform(
                size=[max(n, 0) or (64 if axis else batch_size) for axis, n in enumerate(shape)]
            )
            for name, shape in shapes.items()
        }

    def invoke(self):
        self._interpreter.invoke()

    def outputs(self):
        """The outputs, ``{name: array}``."""
        return {
            name: _as_floats(self._interpreter.get_tensor(detail["index"]), detail)
            for name, detail in self._outputs.items()
        }

    def inner_floats(self):
        """Names of what is still computed in float32 between the inputs and the outputs."""
        ends = {d["index"] for d in (*self._inputs.values(), *self._outputs.values())}
        return tuple(
            detail["name"]
            for detail in self._interpreter.get_tensor_details()
            if detail["dtype"] is np.float32 and detail["index"] not in ends
        )


def _prepare(interpreter):
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:  # of kernels that do not take what the file holds
        raise ValueError(
            f"TFLite's interpreter cannot prepare the file: {error} In a file of integers, a layer "
            "that gives nearly the same for all of calibration_data may be the reason: its scales "
            "lie too far apart. Look whether the model's outputs differ at all over these data."
        ) from error


def _quantized(array, detail):
    """An array as an input takes it: floats by scale and zero point where it takes integers."""
    array, dtype = np.asarray(array), np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if scale == 0:
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(dtype)


def _as_floats(array, detail):
    """The floats that an output stands for."""
    scale, zero = detail["quantization"]
    return array if scale == 0 else (np.float32(scale) * (array.astype(np.float32) - zero))


def _interpreter_class():
    """LiteRT's interpreter where installed, else the one in TensorFlow."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        def Interpreter(**kwargs):
            with warnings.catch_warnings():  # announces its move to LiteRT at each use
                warnings.simplefilter("ignore")
                return tf.lite.Interpreter(**kwargs)

    return Interpreter
