"""A dense and a slim model side by side, as `report` measures them."""

import dataclasses
import functools

import keras

from resrep_keras.costs.latency import tflite_latency
from resrep_keras.graph.trace import trace
from resrep_keras.surgery.forward import example_inputs
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.signature import signature_of


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How latencies are measured; its `str` says so in words.

    Args:
        threads: Threads of the TFLite interpreter.
        batch_size: Batch size of latencies and of the TFLite file.
        repeats: Number of timed calls.
        input_shape: Sizes that the models leave open.
        keras_version, backend: Those of this process.
    """

    threads: int = 1
    batch_size: int = 1
    repeats: int = 50
    input_shape: tuple | dict | None = None
    keras_version: str = dataclasses.field(default_factory=lambda: keras.__version__)
    backend: str = dataclasses.field(default_factory=keras.backend.backend)

    def __str__(self):
        return (
            f"Latency: median of {self.repeats} calls in turn after a warm-up, batch "
            f"{self.batch_size}; TFLite on {self.threads} thread(s), {self.without_latency()}"
        )

    def without_latency(self):
        """The words where nothing was timed."""
        return f"Keras {self.keras_version} on {self.backend}."


class Comparison:
    """Two models, and what several quantities read of them, made once.

    Args:
        dense, slim: The models.
        conditions: The `Conditions` of measurements.

    Attributes:
        models: Both.
        graphs: Their `ChannelGraph`s.
        inputs: Random inputs of both.
        flatbuffers: Both as TFLite, bytes.
    """

    def __init__(self, dense, slim, conditions):
        self.models = dense, slim
        self.conditions = conditions

    @functools.cached_property
    def graphs(self):
        return tuple(trace(model, self.conditions.input_shape) for model in self.models)

    @functools.cached_property
    def inputs(self):
        sizes = {"input_shape": self.conditions.input_shape}
        return example_inputs(self.models[0], self.conditions.batch_size, **sizes)

    @functools.cached_property
    def flatbuffers(self):
        given = self.conditions
        return tuple(
            to_tflite(model, given.batch_size, input_shape=given.input_shape)
            for model in self.models
        )

    @property
    def has_tflite(self):
        """Whether this process can convert models to TFLite."""
        return self.conditions.backend == "tensorflow"


def compare_files(comparison):
    """Bytes of both TFLite files; `None` where this process makes none."""
    if not comparison.has_tflite:
        return None
    return tuple(len(content) for content in comparison.flatbuffers)


def compare_latencies(comparison):
    """Milliseconds of one call of both TFLite files; `None` where this process makes none."""
    if not comparison.has_tflite:
        return None
    seconds = tflite_latency(
        comparison.flatbuffers,
        [signature_of(model).by_name(comparison.inputs) for model in comparison.models],
        comparison.conditions.threads,
        comparison.conditions.repeats,
    )
    return tuple(1000 * value for value in seconds)
