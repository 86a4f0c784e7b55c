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
"""

import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import environment
import keras
import numpy as np
import reach
from absl import app, flags
from common import RESULTS, machine
from products import products

import resrep_keras
from resrep_keras.common.files import write_text
from resrep_keras.costs.macs import count_macs
from resrep_keras.graph.trace import recording_of
from resrep_keras.surgery.forward import example_inputs, run

FLAGS = flags.FLAGS
flags.DEFINE_list("sources", ["hub", "yolo", "vision_examples", "other_examples"], "Which lists.")
flags.DEFINE_list("models", [], "Only these models.")
flags.DEFINE_list("one", [], "A list and a model: measure it in this process and print JSON.")
flags.DEFINE_string("work_dir", None, "Where the environment is made; by default a folder of /tmp.")
flags.DEFINE_string("python", None, "Python that has the packages; by default one is made.")
flags.DEFINE_integer("seed", 0, "Seed of weights and masks.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")

PACKAGES = ("keras-hub==0.32.0", "kyolo==0.1.5", "mtcnn==1.0.0", "tensorflow-cpu==2.21.0")
SOURCES = {
    "hub": "KerasHub",
    "yolo": "kyolo, mtcnn",
    "vision_examples": "keras.io, pictures",
    "other_examples": "keras.io, other",
}
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "third_party.md"
TOLERANCE, LONGEST = 1e-4, 900
# Sizes of what a model leaves open: rows of a sequence.
ROWS = 16

# Loads a slim model where the model's package can be imported and this library cannot.
LOAD = """
import importlib, sys
sys.modules["resrep_keras"] = None
sys.path.insert(0, sys.argv[2])
importlib.import_module(f"third_party.{sys.argv[3]}")
import keras, numpy as np
model = keras.models.load_model(f"{sys.argv[1]}/slim.keras")
given = np.load(f"{sys.argv[1]}/inputs.npz")
inputs = keras.tree.pack_sequence_as(model.input, [given[key] for key in given])
outputs = keras.tree.flatten(model(inputs, training=False))
np.savez(f"{sys.argv[1]}/outputs.npz", *[np.asarray(x, "float64") for x in outputs])
"""


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
    tensors = keras.tree.flatten(model.inputs)
    if all(None not in tensor.shape[1:] for tensor in tensors):
        return None
    shapes = [tuple(ROWS if n is None else n for n in tensor.shape[1:]) for tensor in tensors]
    return shapes[0] if len(shapes) == 1 else {t.name: s for t, s in zip(tensors, shapes)}


def measure(source, name):
    """The row of a model, and what the packages say of its copy."""
    keras.utils.set_random_seed(FLAGS.seed)
    dense = importlib.import_module(f"third_party.{source}").BUILDERS[name]()
    randomise(dense, FLAGS.seed)
    shape = open_sizes(dense)
    row, slim = reach.measure(name, dense, FLAGS.seed, formats=(), shape=shape)
    row |= {"source": source, "macs_slim": count_macs(slim, shape)}
    inputs = functools.partial(example_inputs, slim, input_shape=shape)
    row["macs_of_graph"] = _if_it_can(lambda: products(slim, inputs(1)))
    with tempfile.TemporaryDirectory() as folder:
        row["reloaded_difference"] = _if_it_can(lambda: reload(slim, inputs(), source, folder))
    with tempfile.TemporaryDirectory() as folder:
        row["tflite_difference"] = _if_it_can(lambda: as_tflite(slim, shape, folder))
    return row


def _if_it_can(function):
    """What another package makes of a model, or in words why it makes nothing of it."""
    try:
        return function()
    except Exception as error:  # whatever another package raises, which the table tells
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"


def reload(slim, inputs, source, folder):
    """How far a slim model is from itself, loaded in a process that lacks this library."""
    flat = [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(inputs)]
    slim.save(f"{folder}/slim.keras")
    np.savez(f"{folder}/inputs.npz", *flat)
    here = str(pathlib.Path(__file__).parent)
    command = [sys.executable, "-c", LOAD, folder, here, source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    loaded = np.load(f"{folder}/outputs.npz")
    expected = keras.tree.flatten(run(slim, inputs))
    return reach.largest_difference(expected, [loaded[key] for key in loaded])


def as_tflite(slim, shape, folder):
    return resrep_keras.export(slim, f"{folder}/slim.tflite", input_shape=shape)


# --- all ------------------------------------------------------------------------------------------


def measure_apart(python, source, name):
    """A row from a process of its own."""
    command = [python, __file__, f"--one={source},{name}", f"--seed={FLAGS.seed}"]
    paths = [str(pathlib.Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=settings, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return {"model": name, "source": source, "error": f"not done after {LONGEST} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["(said nothing)"]
        return {"model": name, "source": source, "error": lines[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def names_of(python, source):
    """The models of a list, as the interpreter with the packages knows them."""
    code = f"import third_party.{source} as s; print('\\n'.join(s.BUILDERS))"
    here = pathlib.Path(__file__).parent
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=here)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()


def is_exact(row):
    return "error" not in row and row["difference"] <= TOLERANCE and row["output_spread"] > 1e-3


def _number(value):
    if value is None:
        return "-"
    return f"{value:.0e}" if isinstance(value, float) else f"no: {value.split(':')[0]}"


def _line(row):
    if "error" in row:
        return f"| {row['model']} | failed: {row['error'].replace('|', '/')} |" + " |" * 8
    graph = row["macs_of_graph"]
    counted = "equal" if graph == row["macs_slim"] else str(graph).split(":")[0]
    kept = "; ".join(f"{n} {text}" for text, n in row["kept"].items())
    return (
        f"| {row['model']} | {100 * row['channels_reachable'] / row['channels']:.1f} | "
        f"{100 * row['macs_reachable']:.1f} | {row['difference']:.1e} | {counted} | "
        f"{_number(row['reloaded_difference'])} | {_number(row['tflite_difference'])} | "
        f"{row['wrap_seconds']:.1f} | {row['finalize_seconds']:.1f} | {kept} |"
    )


def as_page(result):
    rows = result["rows"]
    exact = sum(map(is_exact, rows))
    lines = [
        "# Models that were written without this library",
        "",
        f"Made by `{result['command']}` on {result['machine']}; one seed. {exact} of {len(rows)} "
        "models are within the tolerance, 1e-4 of the largest output.",
        "",
        f"Packages: {', '.join(PACKAGES)}. Backbones of KerasHub are built from small",
        "configurations, the models of the keras.io examples are written anew from what the",
        "examples say. Random weights, batch statistics and compactors; 30 % of the channels that",
        "may go are removed, coupled ones included. *Channels*: the share that may go. *MACs*: the",
        "share of the cost that is spent on at least one of them. *Difference*: the largest",
        "between wrapped and slim model as a share of the largest output. *Graph*: whether the",
        "MACs of the slim model are the products of the graph that TensorFlow makes of it.",
        "*.keras*: the difference after a reload in a process that cannot import this library;",
        "*TFLite*: that of the file.",
    ]
    head = "| model | channels (%) | MACs (%) | difference | graph | .keras | TFLite | wrap (s) | "
    for source, words in SOURCES.items():
        found = [row for row in rows if row["source"] == source]
        if found:
            lines += ["", f"## {words}", "", head + "finalize (s) | kept channels |"]
            lines += ["|---" * 10 + "|", *map(_line, found)]
    return "\n".join(lines) + "\n"


def main(_):
    if FLAGS.one:
        print(json.dumps(measure(*FLAGS.one)))
        return
    folder = pathlib.Path(FLAGS.work_dir or tempfile.gettempdir()) / "third_party"
    python = FLAGS.python or environment.python(folder, PACKAGES)
    path = RESULTS / "third_party_models.json"
    known = json.loads(path.read_text())["rows"] if FLAGS.write and path.exists() else []
    rows = {(row["source"], row["model"]): row for row in known}
    jobs = [(source, name) for source in FLAGS.sources for name in names_of(python, source)]
    jobs = [job for job in jobs if not FLAGS.models or job[1] in FLAGS.models]
    for job in jobs:
        row = rows[job] = measure_apart(python, *job)
        shown = ("model", "error", "difference", "macs_reachable", "tflite_difference")
        print({key: row[key] for key in shown if key in row}, flush=True)
        if FLAGS.write:
            result = {
                "command": "python benchmarks/third_party_models.py",
                "machine": machine(),
                "packages": PACKAGES,
                "rows": [row for source in SOURCES for s, row in _of(rows) if s == source],
            }
            write_text(path, json.dumps(result, indent=1) + "\n")
            write_text(PAGE, as_page(result))
    failed = [name for source, name in jobs if not is_exact(rows[source, name])]
    if failed:
        raise SystemExit(f"Not within the tolerance: {', '.join(failed)}.")


def _of(rows):
    return [(source, row) for (source, _), row in rows.items()]


if __name__ == "__main__":
    app.run(main)
