"""What the commands do: each reads files, calls one function of the library, and tells."""

import dataclasses
import json
import os

from resrep_keras.commands.files import inputs_of, read_data, read_history, read_model, say
from resrep_keras.commands.timing import timed
from resrep_keras.deploy.export import export
from resrep_keras.deploy.report import report
from resrep_keras.deploy.reported import check_page
from resrep_keras.explanation.explain import explain
from resrep_keras.methods.channels.fpgm import FPGM
from resrep_keras.methods.channels.magnitude import MagnitudePruning
from resrep_keras.methods.channels.random_pruning import RandomPruning
from resrep_keras.methods.channels.taylor import TaylorPruning
from resrep_keras.workflow.finalize import finalize
from resrep_keras.workflow.prune import prune

METHODS = {
    "taylor": TaylorPruning,
    "magnitude": MagnitudePruning,
    "fpgm": FPGM,
    "random": RandomPruning,
}


def explain_command(given):
    explanation = explain(
        read_model(given.model, given), input_shape=given.input_shape, exact=not given.inexact
    )
    tell(given, explanation, lambda: json.loads(explanation.to_json()))


def prune_command(given):
    kind = METHODS[given.method or ("magnitude" if given.data is None else "taylor")]
    settings = {"exclude": given.exclude, "coupled": given.coupled, "min_share": given.min_share}
    settings |= {"input_shape": given.input_shape, "channel_multiple": given.channel_multiple}
    settings |= {"target_reduction": _target(given), "at_most": dict(given.at_most) or None}
    settings = {name: value for name, value in settings.items() if value is not None}
    method = kind(**settings)
    model = read_model(given.model, given, compiled=given.data is not None)
    data = read_data(given.data, model)
    say(given, f"pruning by {type(method).__name__}")
    _write(given, prune(model, method, data=data, strict=given.strict))


def _target(given):
    """What `target_reduction` takes: one share, or those of several quantities."""
    named = dict(pair for pair in given.target_reduction if isinstance(pair, tuple))
    shares = [share for share in given.target_reduction if not isinstance(share, tuple)]
    if len(shares) > 1 or (shares and named):
        raise ValueError(
            "Expected --target_reduction to be one share, or NAME=SHARE for each quantity; got "
            f"{len(given.target_reduction)} of them."
        )
    return named or (shares[0] if shares else None)


def finalize_command(given):
    model = read_model(given.model, given)
    data = read_data(given.data, model)
    say(given, "removing channels")
    _write(given, finalize(model, strict=given.strict, data=data))


def report_command(given):
    if given.output is not None:
        check_page(given.output)
    dense = read_model(given.dense, given, compiled=True)
    slim = read_model(given.slim, given, compiled=True)
    say(given, "measuring both models")
    table = report(
        dense,
        slim,
        read_data(given.data, dense),
        threads=given.threads,
        batch_size=given.batch_size,
        repeats=given.repeats,
        input_shape=given.input_shape,
        leave_out=given.leave_out,
        history=read_history(given.history, given),
        layer_latency=given.layer_latency,
    )
    if given.output is not None:
        say(given, f"writing {given.output}")
        table.save(given.output)
    tell(given, table, lambda: json.loads(table.to_json()))


def export_command(given):
    model = read_model(given.model, given, compiled=given.test_data is not None)
    inputs = read_data(given.calibration_data, model)
    say(given, f"writing {given.output}")
    done = export(
        model,
        given.output,
        input_shape=given.input_shape,
        quantization=given.quantization,
        calibration_data=inputs_of(inputs),
        inference_type=given.inference_type,
        batch_size=given.batch_size or None,
        test_data=read_data(given.test_data, model),
        latency=given.latency,
        tolerance=given.tolerance,
    )
    tell(given, done, lambda: _plain(dataclasses.asdict(done)))


def benchmark_command(given):
    rows = timed(given)
    tell(given, rows, rows.as_json)


def _write(given, slim):
    """Write a slim model, read back; tells its certificate."""
    say(given, f"writing {given.output}")
    done = export(slim, given.output, input_shape=given.input_shape)
    certificate = slim.certificate
    tell(
        given,
        f"{certificate}\n{done}",
        lambda: {
            "certificate": _plain(dataclasses.asdict(certificate)),
            "exported": _plain(dataclasses.asdict(done)),
        },
    )


def tell(given, result, as_json):
    print(json.dumps(as_json(), indent=1) if given.json else result, flush=True)


def _plain(values):
    """The same as JSON can hold it."""
    return {
        name: str(value) if isinstance(value, os.PathLike) else value
        for name, value in values.items()
    }
