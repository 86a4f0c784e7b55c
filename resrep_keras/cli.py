"""The command line: `resrep-keras`, or `python -m resrep_keras`.

    resrep-keras explain model.keras
    resrep-keras prune model.keras slim.keras --target_reduction 0.3 --data images.npz
    resrep-keras finalize wrapped.keras slim.keras
    resrep-keras report model.keras slim.keras --data test.npz --output report.html
    resrep-keras export slim.keras slim.tflite --quantization int8 --calibration_data images.npz
    resrep-keras benchmark model.keras slim.tflite

What is found goes to the standard output, as text or with `--json`; what is being done, to the
standard error. The exit code is 0 where all went well, 1 where something that was given will not
do, which is told in words, and 2 where the command is not one.
"""

import argparse
import importlib
import sys
import warnings

from resrep_keras.commands import actions
from resrep_keras.commands.mistakes import words_of
from resrep_keras.common.progress import silence
from resrep_keras.costs.quantities import QUANTITIES


def main(argv=None):
    """Do what the words of a command say; returns the exit code.

    Args:
        argv: The words behind the name of the program. Defaults to those of this process.
    """
    parser = _parser()
    given = parser.parse_args(argv)
    with warnings.catch_warnings(), silence(given.quiet):
        if not given.traceback:
            warnings.showwarning = _tell_warning
            warnings.filterwarnings("default", category=UserWarning)
        try:
            for name in given.import_module:
                _import(name)
            given.run(given)
        except KeyboardInterrupt:
            print(f"{parser.prog} {given.command}: stopped", file=sys.stderr)
            return 130
        except Exception as error:
            words = words_of(error)
            if given.traceback or words is None:  # an error of this library is shown whole
                raise
            print(f"{parser.prog} {given.command}: {words}", file=sys.stderr)
            return 1
    return 0


def _import(name):
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever a module of the user's raises or does
        kind = type(error).__name__
        raise ImportError(f"Module '{name}' cannot be imported: {kind}: {error}") from error


def _tell_warning(message, *_, **__):
    print(f"warning: {message}", file=sys.stderr)


# --- the words ------------------------------------------------------------------------------------


def _told(words, text):
    return argparse.ArgumentTypeError(f"expected {words}; got '{text}'")


def _number(text, words="a number"):
    try:
        return float(text)
    except ValueError:
        raise _told(words, text) from None


def _int(text, words="an int"):
    try:
        return int(text)
    except ValueError:
        raise _told(words, text) from None


def _share(text):
    return _quantity(text) if "=" in text else _number(text, "a share, or NAME=SHARE")


def _quantity(text):
    name, _, number = text.partition("=")
    words = f"NAME=NUMBER, of {', '.join(QUANTITIES)}"
    if name not in QUANTITIES:
        raise _told(words, text)
    return name, _number(number, words)


def _by_layer(kind):
    """The type of a setting that is one value, or ``PATTERN=VALUE`` for some layers."""

    def read(text):
        pattern, named, value = text.rpartition("=")
        return (pattern, kind(value)) if named else kind(value)

    return read


def _shape(text):
    words = "sizes such as 224,224,3"
    return tuple(_int(size, words) for size in text.split(","))


def _multiple(text):
    return text if text == "auto" else _int(text, "an int, or auto")


def _parser():
    parser = argparse.ArgumentParser(
        prog="resrep-keras", description="Makes Keras models physically smaller."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_explain, _add_prune, _add_finalize, _add_report, _add_export, _add_benchmark):
        _add_common(add(commands))
    return parser


def _command(commands, name, run, words, *files):
    parser = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
    parser.set_defaults(run=run)
    for file, told in files:
        parser.add_argument(file, help=told)
    return parser


MODEL = ("model", "a file .keras or .h5")
OUTPUT = ("output", "what to write: .keras, .tflite, .onnx, .openvino, or a folder (SavedModel)")
DATA = "a file .npz with arrays x (or one for each input, by its name) and y, or .npy of inputs"


HISTORY = "the wrapped model (.keras), a .csv of CSVLogger, or a .json of lists by name"


def _add_common(parser):
    parser.add_argument(
        "--input_shape", type=_shape, help="sizes that a model leaves open: 32,32,3"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quiet", action="store_true", help="do not tell what is being done")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    parser.add_argument(
        "--import_module",
        action="append",
        default=[],
        help="a module of yours that registers the layers of a model (may be repeated)",
    )


def _add_explain(commands):
    words = "tell which channels can be removed, and why others cannot"
    parser = _command(commands, "explain", actions.explain_command, words, MODEL)
    _add_inexact(parser)
    parser.add_argument("--picture", help="a picture to write of calls and channels: .svg")
    return parser


def _add_inexact(parser):
    words = "let channels go whose removal changes outputs, as layer normalisations have"
    parser.add_argument("--inexact", action="store_true", help=words)


def _add_prune(commands):
    words = "remove channels at once, without training"
    parser = _command(commands, "prune", actions.prune_command, words, MODEL, OUTPUT)
    parser.add_argument(
        "--method", choices=actions.METHODS, help="taylor with --data, magnitude without"
    )
    parser.add_argument(
        "--target_reduction",
        type=_share,
        action="append",
        default=[],
        help="share of the MACs to remove, or NAME=SHARE (may be repeated); 0.5 by default",
    )
    parser.add_argument(
        "--at_most", type=_quantity, action="append", default=[], help="NAME=NUMBER (repeatable)"
    )
    parser.add_argument("--data", help=f"scores and repairs: {DATA}")
    parser.add_argument("--no_repair", action="store_true", help="data only score and compare")
    parser.add_argument("--exclude", action="append", help="a layer or pattern (may be repeated)")
    parser.add_argument("--coupled", action="store_true", help="prune residual streams, too")
    parser.add_argument("--scope", choices=("all", "blocks"), help="blocks: residual ones only")
    for name, kind, words in (
        ("min_share", _number, "share that each layer keeps at least"),
        ("min_channels", _int, "channels that each layer keeps at least"),
        ("channel_multiple", _multiple, "layers keep a multiple of it: an int, or auto"),
    ):
        words = f"{words}; or PATTERN=VALUE (may be repeated)"
        parser.add_argument(
            f"--{name}", type=_by_layer(kind), action="append", default=[], help=words
        )
    parser.add_argument("--threads", type=_int, help="for a target of latency. Default: 1")
    _add_inexact(parser)
    parser.add_argument("--strict", action="store_true", help="fail where outputs differ")
    return parser


def _add_finalize(commands):
    words = "make the slim model of a trained wrapped one"
    parser = _command(commands, "finalize", actions.finalize_command, words, MODEL, OUTPUT)
    parser.add_argument("--data", help=f"compares on it, too: {DATA}")
    parser.add_argument("--strict", action="store_true", help="fail where the target is not met")
    words = "leave batch normalisations where they are, for a model that is trained on"
    parser.add_argument("--keep_batch_norm", action="store_true", help=words)
    return parser


def _add_report(commands):
    files = ("dense", "the model before, .keras or .h5"), ("slim", "the model after")
    words = "compare a dense and a slim model"
    parser = _command(commands, "report", actions.report_command, words, *files)
    parser.add_argument("--data", help=f"to evaluate both on: {DATA}")
    parser.add_argument("--leave_out", action="append", default=[], help="what not to measure")
    parser.add_argument("--layer_latency", action="store_true", help="time each layer, too")
    parser.add_argument("--output", help="a page to write: .html, .md, .json or .txt")
    parser.add_argument("--history", help=f"what the run has logged: {HISTORY}")
    _add_timing(parser)
    return parser


def _add_export(commands):
    parser = _command(
        commands, "export", actions.export_command, "write a model in another format", MODEL, OUTPUT
    )
    words = "store kernels without their zeros, of models that were made sparse, for .tflite"
    parser.add_argument("--sparse", action="store_true", help=words)
    parser.add_argument("--data", help=f"to compare model and file on: {DATA}")
    parser.add_argument("--quantization", help="float16, dynamic, int8 or int16x8, for .tflite")
    parser.add_argument("--calibration_data", help=f"for int8 and int16x8: {DATA}")
    parser.add_argument("--inference_type", help="int8, uint8 or int16 at the inputs and outputs")
    parser.add_argument(
        "--batch_size", type=_int, default=1, help="that a .tflite takes; 0 for any. Default: 1"
    )
    parser.add_argument("--test_data", help=f"to judge model and file on: {DATA}")
    parser.add_argument("--latency", action="store_true", help="time the file")
    parser.add_argument(
        "--tolerance", type=_number, help="largest difference to keep the file with"
    )
    return parser


def _add_benchmark(commands):
    words = "time models side by side, as TFLite files"
    parser = _command(commands, "benchmark", actions.benchmark_command, words)
    parser.add_argument("models", nargs="+", help="files .keras, .h5 or .tflite")
    _add_timing(parser)
    return parser


def _add_timing(parser):
    parser.add_argument("--threads", type=_int, default=1, help="of the interpreter. Default: 1")
    parser.add_argument("--batch_size", type=_int, default=1, help="Default: 1")
    parser.add_argument("--repeats", type=_int, default=50, help="timed calls. Default: 50")
