"""report(dense, slim): what pruning has changed, measured side by side."""

import collections.abc
import os
import tempfile
import typing

import keras

from resrep_keras.common.checks import (
    check_bool,
    check_choice,
    check_instance,
    check_number,
)
from resrep_keras.common.progress import check_verbose
from resrep_keras.common.retracing import quiet_about_tracing
from resrep_keras.common.types import Data, InputShape
from resrep_keras.costs.comparison import Comparison, Conditions
from resrep_keras.costs.latency import keras_latency
from resrep_keras.costs.quantities import QUANTITIES
from resrep_keras.costs.terms import UnknownCost
from resrep_keras.deploy.by_layer import layer_rows, seconds_by_layer
from resrep_keras.deploy.quality import quality
from resrep_keras.deploy.reported import Report, Row
from resrep_keras.deploy.runs import runs_of
from resrep_keras.graph.sizes import check_input_shape
from resrep_keras.graph.unroll import as_functional, check_model, is_graph
from resrep_keras.methods.pruning_log import as_log, log_of


def report(
    dense: keras.Model,
    slim: keras.Model,
    test_data: Data = None,
    threads: int = 1,
    batch_size: int = 1,
    repeats: int = 50,
    input_shape: InputShape = None,
    leave_out: collections.abc.Iterable[str] = (),
    *,
    history: typing.Any = None,
    runs: typing.Any = None,
    layer_latency: bool = False,
    verbose: int | str = "auto",
) -> Report:
    """Compare a dense and a slim model, each row under equal conditions.

    Quality is what `evaluate` tells of both, with the loss and metrics that the dense model is
    compiled with, or else the slim one: a row for each name that `evaluate` gives. Latencies are
    medians of calls made in turn, after a warm-up, so that their ratio holds where the machine's
    speed drifts. Bytes of `.keras` files are those of models without an optimizer.

    Args:
        dense: The model before.
        slim: The model after.
        test_data: `(x, y)` or `(x, y, sample_weight)` of arrays, a `tf.data.Dataset`, or whatever
            else `evaluate` takes and can be read twice. Defaults to none, without rows of quality.
        threads: Threads of the TFLite interpreter. Defaults to `1`.
        batch_size: Batch size of the latencies. Defaults to `1`.
        repeats: Number of timed calls, at most 10,000. Defaults to `50`.
        input_shape: Shape without batch for models that leave sizes open, see
            `resrep_keras.graph.sizes`. Defaults to `None`: what depends on an unknown size is left
            out, and latencies are those of size 64.
        leave_out: What not to measure: names that `target_reduction` takes, of which `"latency"`
            and `"file_bytes"` mean Keras's, too, `"quality"` or `"widths"`. Defaults to nothing.
        history: What was logged of the run: what `fit` returned, or a dict of lists such as its
            `history`. By name, as what follows. Defaults to what the run of the wrapped model
            left with `slim`, norms of compactors included, where it was finalized in this process
            or from a `.keras` file.
        runs: Several runs to draw, quality against cost: what `search` returns, or reports by
            name, ``{name: Report, or a list of them}``. Defaults to none.
        layer_latency: Whether to time each layer of both models alone (TFLite), which takes about
            a second a layer. Defaults to `False`.
        verbose: `0` for silence, `1` for a line that shows how far this is; `"auto"` for one where
            somebody looks. Defaults to `"auto"`.

    Returns:
        A `Report`: `print` it, or `save("report.html")`.

    Raises:
        TypeError: Not a Keras model, or an argument of another kind.
        ValueError: An argument out of range, or `test_data` where neither model is compiled.

    Example:

    >>> table = resrep_keras.report(dense, slim, (x_test, y_test), leave_out=["latency"])
    >>> table.row("accuracy").slim
    >>> table.save("report.html")
    """
    left = _check_leave_out(leave_out)
    check_model(dense, "dense")
    check_model(slim, "slim")
    conditions = Conditions(
        check_number("threads", threads, at_least=1, at_most=1024, whole=True),
        check_number("batch_size", batch_size, at_least=1, whole=True),
        check_number("repeats", repeats, at_least=1, at_most=10_000, whole=True),
        check_input_shape(input_shape),
    )
    check_verbose(verbose)
    by_layer = check_bool("layer_latency", layer_latency) and "widths" not in left
    log = log_of(slim) if history is None else as_log(history)
    several = None if runs is None else runs_of(runs)
    # First what may be refused; what takes time comes after it.
    wanted = test_data is not None and "quality" not in left
    told = quality(dense, slim, test_data) if wanted else {}
    compared = Comparison(dense, slim, conditions)
    rows = [*_quantity_rows(compared, left), *_rows_of_keras(compared, left)]
    rows += [Row(name, "", was, now, is_quality=True) for name, (was, now) in told.items()]
    times = seconds_by_layer(compared.graphs, threads, verbose) if by_layer else ({}, {})
    return Report(
        tuple(rows),
        {} if "widths" in left else _widths(*compared.graphs),
        conditions,
        name=dense.name,
        layers=() if "widths" in left else layer_rows(compared.graphs, times),
        certificate=vars(slim).get("certificate"),
        log=log,
        runs=several,
        graph=compared.graphs[0],
    )


def _rows_of_keras(compared, left):
    """The rows of what Keras itself writes and runs."""
    plain = [as_functional(model) for model in compared.models]  # compiled in no way
    if "file_bytes" not in left:
        yield Row(".keras file", "bytes", *map(_file_bytes, plain))
    if "latency" not in left:
        timed = [p if is_graph(m) else m for p, m in zip(plain, compared.models)]
        with quiet_about_tracing():
            seconds = keras_latency(timed, compared.inputs, compared.conditions.repeats)
        yield Row("Keras latency", "ms", *(1000 * s for s in seconds))


def _check_leave_out(leave_out):
    """The names of what is left out, as a set."""
    known = [*QUANTITIES, "quality", "widths"]
    words = "a list of names such as ['latency']"
    check_instance("leave_out", leave_out, (list, tuple, set, frozenset), words)
    return {check_choice("each of leave_out", name, known) for name in leave_out}


def _quantity_rows(compared, left):
    """A row for each quantity that a target can be about, where this process can tell it."""
    for name, quantity in QUANTITIES.items():
        if name in left:
            continue
        try:
            values = quantity.compare(compared)
        except UnknownCost as error:
            values = None, None, str(error)
        if values is not None:
            yield Row(quantity.label, quantity.unit, *values)


def _file_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return os.path.getsize(path)


def _widths(*graphs):
    """Channels of each layer before and after, in the order of the model."""
    place = {call.name: call.index for call in graphs[0].calls}
    before, after = (
        {
            p.name: (place.get(p.layer, 0), len(p.channels))
            for g in graph.groups
            for p in g.producers
        }
        for graph in graphs
    )
    names = sorted((name for name in before if name in after), key=lambda name: before[name][0])
    return {name: (before[name][1], after[name][1]) for name in names}
