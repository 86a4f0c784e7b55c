"""Models that were written without this library: what can be pruned, and how exact it is.

    python benchmarks/third_party_models.py

Backbones of KerasHub from small configurations, the smallest model of each family of kyolo, the
nets of mtcnn, and models of the kinds that the code examples of keras.io describe, written anew
(`benchmarks/third_party/`). The packages live in an environment of their own, which is made in the
work folder by `pip`; this project does not depend on them.

Each model runs in a process of its own: random weights and batch statistics, coupled groups,
compactors moved away from the identity, 30 % of all channels that may go removed. The slim model is
compared with the wrapped one, its MACs with the products of the graph that TensorFlow runs, and it
is saved as `.keras`, loaded in a process that has the model's own package and not this library, and
converted to TFLite. Results go to benchmarks/results/third_party_models.json and
docs/third_party.md, after each model.

A row is kept in the work folder and not measured again; `--models` measures those that it names
anew, and leaves the others as they are:

    python benchmarks/third_party_models.py --models='GPT*,mtcnn*'

A model that fails is a row that says so, and an error at the end.
"""

import fnmatch
import functools
import importlib
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import environment
import keras
import numpy as np
import reach
from absl import app, flags
from common import RESULTS, machine
from products import count_products
from third_party.serving import LONGEST, Server, fork
from third_party_page import SOURCES, TOLERANCE, as_page, is_right

import resrep_keras
from resrep_keras.common.files import write_text
from resrep_keras.costs.macs import MacCost, count_macs
from resrep_keras.graph.trace import recording_of
from resrep_keras.graph.unroll import inputs_of
from resrep_keras.keras_adapter import input_name
from resrep_keras.surgery.forward import example_inputs, run

FLAGS = flags.FLAGS
flags.DEFINE_list("sources", list(SOURCES), "Which lists.")
flags.DEFINE_list("models", [], "Measure these anew: names, or patterns such as 'GPT*'.")
flags.DEFINE_list("one", [], "A list and a model: measure it in this process and print JSON.")
flags.DEFINE_string("serve", None, "A list: read 'model<tab>path' from the input, write rows.")
flags.DEFINE_string("work_dir", None, "Where environment and rows are kept; by default temporary.")
flags.DEFINE_string("python", None, "Python that has the packages; by default one is made.")
flags.DEFINE_integer("seed", 0, "Seed of weights and masks.")
flags.DEFINE_bool("measure", True, "Whether to measure; else what is kept makes the page.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")

PACKAGES = ("keras-hub==0.32.0", "kyolo==0.1.5", "mtcnn==1.0.0", "tensorflow-cpu==2.21.0", "psutil")
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "third_party.md"
# Sizes of what a model leaves open: rows of a sequence.
ROWS = 16

# --- one model ------------------------------------------------------------------------------------


def randomise(model, seed):
    """Random batch statistics and offsets, so that nothing is an identity by chance."""
    generator = np.random.default_rng(seed)
    called = {id(r.operation): r.operation for r in recording_of(model).all_calls()}
    for operation in called.values():
        if isinstance(operation, keras.layers.BatchNormalization):
            for weight in operation.weights:
                positive = weight.path.endswith(("gamma", "variance"))
                draw = generator.uniform(0.5, 1.5, weight.shape)
                weight.assign(draw if positive else draw - 1)
    for weight in model.trainable_weights:
        if weight.path.endswith(("bias", "beta")):
            weight.assign(generator.normal(0, 0.1, weight.shape))


def open_sizes(model):
    """The `input_shape` of a model that leaves sizes open, or `None`."""
    tensors = keras.tree.flatten(inputs_of(model))
    if all(None not in tensor.shape[1:] for tensor in tensors):
        return None
    shapes = [tuple(ROWS if n is None else n for n in tensor.shape[1:]) for tensor in tensors]
    return shapes[0] if len(shapes) == 1 else {input_name(t): s for t, s in zip(tensors, shapes)}


def measure(source, name, loader):
    """The row of a model, and what the packages say of its copy."""
    begin = time.perf_counter()
    keras.utils.set_random_seed(FLAGS.seed)
    dense = importlib.import_module(f"third_party.{source}").BUILDERS[name]()
    randomise(dense, FLAGS.seed)
    shape = open_sizes(dense)
    row, slim = reach.measure(name, dense, FLAGS.seed, formats=(), shape=shape)
    row |= {"source": source, "macs_slim": count_macs(slim, shape)}
    row["macs_unknown"] = dict(MacCost(resrep_keras.trace(slim, shape)).unknown)
    inputs = functools.partial(example_inputs, slim, input_shape=shape)
    row["macs_of_graph"] = _if_it_can(lambda: vars(count_products(slim, inputs(1))))
    with tempfile.TemporaryDirectory() as folder:
        row["reloaded_difference"] = _if_it_can(lambda: reload(slim, inputs(), loader, folder))
    if not isinstance(row["reloaded_difference"], str) and row["reloaded_difference"] > TOLERANCE:
        # Keras may read a model otherwise than it wrote it: `ops.gelu` comes back as another gelu.
        again = importlib.import_module(f"third_party.{source}").BUILDERS[name]()
        with tempfile.TemporaryDirectory() as folder:
            row["dense_reloaded"] = _if_it_can(lambda: reload(again, inputs(), loader, folder))
    with tempfile.TemporaryDirectory() as folder:
        row["tflite_difference"] = _if_it_can(lambda: as_tflite(slim, shape, folder))
    if isinstance(row["tflite_difference"], str):  # is it the model?
        again = importlib.import_module(f"third_party.{source}").BUILDERS[name]()
        with tempfile.TemporaryDirectory() as folder:
            row["dense_tflite"] = _if_it_can(lambda: as_tflite(again, shape, folder))
    return row | {"seconds": time.perf_counter() - begin}


def _if_it_can(function):
    """What another package makes of a model, or in words why it makes nothing of it."""
    try:
        return function()
    except Exception as error:  # whatever another package raises, which the table tells
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"


def loader_of(source):
    """A process that lacks this library, and loads models of a list."""
    here = pathlib.Path(__file__).parent
    command = [sys.executable, str(here / "third_party" / "loading.py"), str(here), source]
    return Server(command, "loading: ")


def reload(slim, inputs, loader, folder):
    """How far a slim model is from itself, loaded in a process that lacks this library."""
    flat = [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(inputs)]
    slim.save(f"{folder}/slim.keras")
    np.savez(f"{folder}/inputs.npz", *flat)
    said = loader.ask(folder)
    if said != "ok":
        raise RuntimeError(said)
    loaded = np.load(f"{folder}/outputs.npz")
    expected = keras.tree.flatten(run(slim, inputs))
    drawn = reach.drawn_outputs(slim, inputs)
    return reach.largest_difference(expected, [loaded[key] for key in loaded], drawn)


def as_tflite(model, shape, folder):
    """The difference of the file.

    Raises:
        ValueError: Names the operation that TensorFlow's converter does not take.
    """
    try:
        return resrep_keras.export(model, f"{folder}/model.tflite", input_shape=shape)
    except ValueError as error:
        told = re.search(r"'tf\.\w+' op [^\n]*", str(error))
        raise ValueError(told[0] if told else str(error)) from error


# --- all ------------------------------------------------------------------------------------------


def serve(source):
    """Measure the models that the input names, each in a fork of this process."""
    importlib.import_module(f"third_party.{source}")
    loader = loader_of(source)
    for line in sys.stdin:
        name, path = line.rstrip("\n").split("\t")
        fork(functools.partial(_write_row, path, source, name, loader), f"{path}.log")
        print("row: written", flush=True)


def _write_row(path, source, name, loader):
    """Write a row, or one that says what went wrong."""
    try:
        row = measure(source, name, loader)
    except Exception as error:  # which the table tells
        traceback.print_exc()
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        row = {"model": name, "source": source, "error": words}
    write_text(path, json.dumps(row, indent=1) + "\n")


def server_of(python, source):
    command = [python, __file__, f"--serve={source}", f"--seed={FLAGS.seed}"]
    paths = [str(pathlib.Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return Server(command, "row: ", settings)


def all_jobs(python):
    """`(list, model)` of all models, as the interpreter with the packages knows them."""
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n"
    code += "    for model in importlib.import_module(f'third_party.{name}').BUILDERS:\n"
    code += "        print('model:', name, model, sep='\\t')"
    command, here = [python, "-c", code, *FLAGS.sources], pathlib.Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    if done.returncode:
        raise SystemExit(done.stderr)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [(line[1], line[2]) for line in lines if line[0] == "model:"]


class Rows:
    """The rows of a work folder, one file each, over those of the result file.

    Args:
        folder: A `pathlib.Path`.
        path: That of the result file.
    """

    def __init__(self, folder, path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text())["rows"] if path.exists() else []
        self.known = {(row["source"], row["model"]): row for row in known}

    def place(self, job):
        return self.folder / f"{'-'.join(job).replace(' ', '_')}.json"

    def __getitem__(self, job):
        place = self.place(job)
        return json.loads(place.read_text()) if place.exists() else self.known.get(job)

    def measure(self, job, server):
        """Have a row written anew, and return it."""
        source, name = job
        self.place(job).unlink(missing_ok=True)
        server.ask(f"{name}\t{self.place(job)}")
        if not self.place(job).exists():
            words = {"model": name, "source": source, "error": f"it died, or took {LONGEST} s"}
            write_text(self.place(job), json.dumps(words))
        return self[job]


def asked_for(jobs, rows):
    """Those that `--models` names; else those that have no row in the work folder."""
    if not FLAGS.measure:
        return []
    if not FLAGS.models:
        return [job for job in jobs if not rows.place(job).exists()]
    found = [job for job in jobs if any(fnmatch.fnmatch(job[1], name) for name in FLAGS.models)]
    if not found:
        raise SystemExit(f"No model is called as --models={','.join(FLAGS.models)}.")
    return found


def write_results(rows, jobs, path):
    """Write JSON and page; lists that were not asked for keep what the result file says."""
    others = [job for job in rows.known if job[0] not in FLAGS.sources]
    ordered = sorted([*jobs, *others], key=lambda job: list(SOURCES).index(job[0]))
    there = [row for row in map(rows.__getitem__, ordered) if row is not None]
    result = {
        "command": "python benchmarks/third_party_models.py",
        "machine": machine(),
        "seed": FLAGS.seed,
        "packages": PACKAGES,
        "rows": there,
    }
    write_text(path, json.dumps(result, indent=1) + "\n")
    write_text(PAGE, as_page(result))


def main(_):
    if FLAGS.one:
        print(json.dumps(measure(*FLAGS.one, loader_of(FLAGS.one[0]))))
        return
    if FLAGS.serve:
        return serve(FLAGS.serve)
    folder = pathlib.Path(FLAGS.work_dir or tempfile.gettempdir()) / "third_party"
    python = FLAGS.python or environment.python(folder, PACKAGES)
    path = RESULTS / "third_party_models.json"
    rows = Rows(folder / f"rows_{FLAGS.seed}", path)
    jobs = all_jobs(python)
    for source, group in itertools.groupby(asked_for(jobs, rows), key=lambda job: job[0]):
        server = server_of(python, source)
        for job in group:
            row = rows.measure(job, server)
            shown = ("model", "error", "difference", "macs_reachable", "seconds")
            print({key: row[key] for key in shown if key in row}, flush=True)
            if FLAGS.write:
                write_results(rows, jobs, path)
        server.close()
    if FLAGS.write:
        write_results(rows, jobs, path)
    failed = [job[1] for job in jobs if rows[job] is None or not is_right(rows[job])]
    if failed:
        raise SystemExit(f"Not wholly right: {', '.join(failed)}.")


if __name__ == "__main__":
    app.run(main)
