"""Latency: seconds for one call, the median of repeats after a warm-up."""

import tempfile
import time
import warnings

import keras
import numpy as np

from resrep_keras.graph.unroll import check_model, inputs_of


def to_tflite(model, batch_size=1, sparse=False):
    """Convert a model to a float32 TFLite flatbuffer, as bytes.

    Args:
        model: Functional or Sequential model on the TensorFlow backend.
        batch_size: Fixed batch size of the converted model; `None` leaves it open, which keeps
            some kernels from being used. Defaults to `1`.
        sparse: Whether to store kernels that are mostly zero as their other entries and where these
            are. Defaults to `False`.

    Raises:
        ValueError: The backend is not TensorFlow.
    """
    check_model(model)
    check_backend()
    import tensorflow as tf

    structure = inputs_of(model)
    flat = keras.tree.flatten(structure)
    signature = [tf.TensorSpec((batch_size, *x.shape[1:]), x.dtype) for x in flat]

    def serve(*flat):
        inputs = keras.tree.pack_sequence_as(structure, list(flat))
        return keras.tree.flatten(model(inputs, training=False))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] * sparse
        return converter.convert()


def check_backend():
    """Raise where models cannot be converted to TFLite, nor timed there.

    Raises:
        ValueError: The backend is not TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"TFLite needs the TensorFlow backend; this process runs on {keras.backend.backend()}. "
            "Save the model as .keras and convert it in a process with KERAS_BACKEND=tensorflow. "
            "Targets of file_bytes and latency, and channel_multiple='auto', need it, too."
        )


def to_tflite_quickly(model):
    """The same for a small model with fixed sizes, without the names that a signature gives."""
    import tensorflow as tf

    signature = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    constants = [(v, tf.constant(keras.ops.convert_to_numpy(v))) for v in model.variables]

    @tf.function(input_signature=signature)
    def function(*flat):
        with keras.StatelessScope(state_mapping=constants):
            return model(list(flat))

    concrete = function.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module()).convert()


def seconds_alone(content, threads=1, seconds=0.02, least=9):
    """Seconds of one call of a flatbuffer: the lower quartile of many, which other work disturbs least.

    Args:
        content: The flatbuffer, bytes.
        threads: Number of threads. Defaults to `1`.
        seconds: How long to measure. Defaults to `0.02`.
        least: Number of calls, at least. Defaults to `9`.
    """
    interpreter = _interpreter_class()(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
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
    """Runs a flatbuffer made by `to_tflite` on NumPy inputs.

    Args:
        content: The flatbuffer, bytes.
        threads: Number of threads. Defaults to `1`.
    """

    def __init__(self, content, threads=1):
        self._interpreter = _interpreter_class()(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()
        signature = self._interpreter.get_signature_runner()
        self._inputs = _in_order(signature.get_input_details())
        self._outputs = _in_order(signature.get_output_details())

    def set_inputs(self, arrays):
        """Set the inputs, flattened as in the Keras model."""
        for detail, array in zip(self._inputs, arrays):
            array = np.asarray(keras.ops.convert_to_numpy(array), detail["dtype"])
            self._interpreter.set_tensor(detail["index"], array)

    def invoke(self):
        self._interpreter.invoke()

    def outputs(self):
        """The outputs as arrays, flattened as in the Keras model."""
        return [self._interpreter.get_tensor(detail["index"]) for detail in self._outputs]


def _in_order(details):
    """Details of arguments that are called `flat_0`, `flat_1`, ..."""
    return [details[name] for name in sorted(details, key=lambda name: int(name.split("_")[-1]))]


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


def median_seconds(calls, repeats=50, warmup=5):
    """Median seconds of each of several functions, called in turn so that drift hits all alike."""
    seconds = [[] for _ in calls]
    for _ in range(warmup):
        for call in calls:
            call()
    for _ in range(repeats):
        for call, measured in zip(calls, seconds):
            begin = time.perf_counter()
            call()
            measured.append(time.perf_counter() - begin)
    return [float(np.median(measured)) for measured in seconds]


def tflite_latency(contents, inputs, threads=1, repeats=50):
    """Median seconds of several flatbuffers on the same inputs, measured side by side."""
    runners = [TFLiteRunner(content, threads) for content in contents]
    for runner in runners:
        runner.set_inputs(inputs)
    return median_seconds([runner.invoke for runner in runners], repeats)


def keras_latency(models, inputs, repeats=20):
    """Median seconds of several models' `predict_on_batch` on the same inputs, side by side."""
    return median_seconds([lambda m=m: m.predict_on_batch(inputs) for m in models], repeats)
