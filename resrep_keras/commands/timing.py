"""Files of models, timed side by side as TFLite files."""

import dataclasses

from resrep_keras.commands.files import existing, read_model, say
from resrep_keras.common.checks import check_number
from resrep_keras.common.tables import text_table
from resrep_keras.costs.latency import tflite_latency
from resrep_keras.costs.macs import count_macs
from resrep_keras.costs.params import count_params
from resrep_keras.surgery.forward import example_inputs
from resrep_keras.tflite.convert import to_tflite
from resrep_keras.tflite.run import TFLiteRunner
from resrep_keras.tflite.signature import signature_of


@dataclasses.dataclass(frozen=True)
class Timed:
    """One of the files.

    Args:
        file: Its path.
        milliseconds: Median time of a call.
        bytes: Of the TFLite file.
        macs, params: Of a Keras model; `None` for a file that holds no layers.
    """

    file: str
    milliseconds: float
    bytes: int
    macs: int | None = None
    params: int | None = None


@dataclasses.dataclass(frozen=True)
class Timing:
    """What was measured; `print` it.

    Args:
        rows: A `Timed` for each file.
        conditions: How, in words.
    """

    rows: tuple
    conditions: str

    def __str__(self):
        cells = [
            (
                row.file,
                f"{row.milliseconds:.3f}",
                f"{row.milliseconds / self.rows[0].milliseconds:.3f}",
                *("-" if n is None else f"{n:,}" for n in (row.bytes, row.macs, row.params)),
            )
            for row in self.rows
        ]
        header = ("", "ms", "ratio", "bytes", "MACs", "parameters")
        return "\n".join([*text_table(header, cells), self.conditions])

    def as_json(self):
        return dataclasses.asdict(self)


def timed(given):
    """The `Timing` of the files of a command."""
    for name, most in (("threads", 1024), ("batch_size", None), ("repeats", 10_000)):
        check_number(name, vars(given)[name], at_least=1, at_most=most, whole=True)
    contents, inputs, counted = zip(*(_made(path, given) for path in given.models))
    say(given, "timing them in turn")
    seconds = tflite_latency(contents, inputs, given.threads, given.repeats)
    rows = (
        Timed(path, 1000 * spent, len(content), *counts)
        for path, spent, content, counts in zip(given.models, seconds, contents, counted)
    )
    words = (
        f"TFLite, batch {given.batch_size}, {given.threads} thread(s), median of {given.repeats} "
        "calls in turn; ratio to the first."
    )
    return Timing(tuple(rows), words)


def _made(path, given):
    """A TFLite file, inputs for it, and what can be counted of the model."""
    if existing(path).suffix == ".tflite":
        content = existing(path).read_bytes()
        return content, TFLiteRunner(content).random_inputs(given.batch_size), ()
    model, shape = read_model(path, given), given.input_shape
    say(given, f"converting {path}")
    content = to_tflite(model, given.batch_size, input_shape=shape)
    inputs = example_inputs(model, given.batch_size, input_shape=shape)
    counts = count_macs(model, input_shape=shape), count_params(model)
    return content, signature_of(model).by_name(inputs), counts
