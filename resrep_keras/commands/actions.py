"""What the commands do: each reads files, calls one function of the library, and tells."""

import dataclasses
import json
import os

from resrep_keras.commands.files import (
    check_picture,
    inputs_of,
    read_data,
    read_history,
    read_model,
    say,
)
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
    picture = None if given.picture is None else check_picture(given.picture)
    explanation = explain(
        read_model(given.model, given), input_shape=given.input_shape, exact=not given.inexact
    )
    if picture is not None:
        say(given, f"writing {picture}")
        explanation.to_svg(picture)
    tell(given, explanation, lambda: json.loads(explanation.to_json()))


def prune_command(given):
    kind = METHODS[given.method or ("magnitude" if given.data is None else "taylor")]
    settings = {"exclude": given.exclude, "coupled": given.coupled, "exact": not given.inexact}
    settings |= {"scope": given.scope, "threads": given.threads, "input_shape": given.input_shape}
    settings |= {"target_reduction": _target(given), "at_most": dict(given.at_most) or None}
    for name in ("min_share", "min_channels", "channel_multiple"):
        settings[name] = _one_or_named(name, vars(given)[name], "value", "PATTERN", "layer")
    settings = {name: value for name, value in settings.items() if value is not None}
    method = kind(**settings)
    model = read_model(given.model, given, compiled=given.data is not None)
    data = read_data(given.data, model)
    say(given, f"pruning by {type(method).__name__}")
    repair = not given.no_repair
    _write(given, prune(model, method, data=data, strict=given.strict, repair=repair))


def _target(given):
    """What `target_reduction` takes: one share, or those of several quantities."""
    return _one_or_named(
        "target_reduction", given.target_reduction, "share", "NAME", "quantity", "SHARE"
    )


def _one_or_named(option, values, one, name, of, value="VALUE"):
    """One value, or a dict of pairs `(name, value)`; `None` where none was given."""
    named = dict(each for each in values if isinstance(each, tuple))
    plain = [each for each in values if not isinstance(each, tuple)]
    if len(plain) > 1 or (plain and named):
        raise ValueError(
            f"Expected --{option} to be one {one}, or {name}={value} for each {of}; got "
            f"{len(values)} of them."
        )
    return named or (plain[0] if plain else None)


def finalize_command(given):
    model = read_model(given.model, given)
    data = read_data(given.data, model)
    say(given, "removing channels")
    keep = given.keep_batch_norm
    _write(given, finalize(model, strict=given.strict, data=data, keep_batch_norm=keep))


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
        sparse=given.sparse,
        input_shape=given.input_shape,
        data=inputs_of(read_data(given.data, model)),
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
