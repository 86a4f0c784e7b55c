"""Learning without forgetting: ANPyC against fine-tuning, EWC, MAS and SI, ten and fifty tasks.

    python benchmarks/continual.py --data_dir=<folder of idx files> --jobs=2

Permuted Fashion-MNIST, the same trunk with a head for each task for every method. The strength of
each method is the one that is best on validation images, on seeds that are not reported. Finished
runs are kept in the work folder, `--jobs` of them are made at a time, and `--phase` makes a part of
them: select, report, long; `page` makes none. Any backend of Keras does; for nets this small
`KERAS_BACKEND=jax JAX_PLATFORMS=cpu` is the fastest. Fails where a bar is missed. Writes
`benchmarks/results/continual.json` and `.md`, and figures beside them.
"""

import dataclasses
import multiprocessing
import os
import sys
import tempfile
import time

# Many processes beside each other: each with one thread, none with all of the memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
# What JAX has compiled for one seed serves the others.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/resrep_continual_jax")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import continual_page
import datasets
import keras
import numpy as np
import task_data
import trials
from absl import app, flags, logging
from common import machine

import resrep_keras
from resrep_keras.methods.consolidation.pruning import percent_of, stages_of

FLAGS = flags.FLAGS
FLAGS.set_default("seeds", ["0", "1", "2", "3", "4"])
FLAGS.set_default("images", 6_016)  # whole batches: one shape to compile
FLAGS.set_default("test_images", 5_000)
FLAGS.set_default("threads", 1)
PHASES = ("select", "report", "long", "page")
flags.DEFINE_enum("phase", "all", [*PHASES, "all"], "What to run.")
flags.DEFINE_integer("jobs", 1, "Runs beside each other, each in a process of its own.")
flags.DEFINE_list("select_seeds", ["10", "11"], "Seeds on which strengths are chosen.")
flags.DEFINE_list("protocols", ["restarted", "smooth"], "Of the learning rate.")
flags.DEFINE_list("long_seeds", ["0", "1", "2"], "Seeds of the long sequence; none leaves it out.")
flags.DEFINE_integer("tasks", 10, "Tasks of a sequence.")
flags.DEFINE_integer("validation_images", 5_000, "Images on which strengths are chosen.")
flags.DEFINE_integer(
    "importance_batches", 120, "Batches of ANPyC's importance: 12,000 images by 100, as released."
)
flags.DEFINE_integer("long_tasks", 50, "Tasks of the long sequence.")
flags.DEFINE_integer("long_select_tasks", 10, "Tasks of it on which strengths are chosen.")
flags.DEFINE_integer("long_images", 2_048, "Training images of each of its tasks.")
flags.DEFINE_integer("long_test_images", 1_000, "Test images of each of its tasks.")

BATCH, RATE, CLIP = 128, 0.1, 5.0
UNITS = (64, 32)


def anpyc(strength, images, **settings):
    # With fewer batches more weights are never of a positive importance, and pruned at once.
    batch = max(1, images // FLAGS.importance_batches)
    return resrep_keras.ANPyC(strength, importance_batch_size=batch, **settings)


# What makes a method of a strength, for tasks of so many images; and the strengths to choose from.
METHODS = {
    "fine-tuning": (lambda strength, images: resrep_keras.FineTuning(), (0.0,)),
    "EWC": (lambda strength, images: resrep_keras.EWC(strength), (1.0, 3.0, 10.0, 30.0)),
    "MAS": (lambda strength, images: resrep_keras.MAS(strength), (1.0, 3.0, 10.0, 30.0)),
    "SI": (
        lambda strength, images: resrep_keras.SynapticIntelligence(strength),
        (0.1, 0.3, 1.0, 3.0),
    ),
    "ANPyC, not pruned": (
        lambda strength, images: anpyc(strength, images, initial_percent=None),
        (1.0, 3.0, 10.0, 30.0),
    ),
    "ANPyC, pruned": (
        lambda strength, images: anpyc(strength, images, retrain_epochs=1),
        (1.0, 3.0, 10.0, 30.0),
    ),
}
LONG = ("fine-tuning", "EWC", "ANPyC, not pruned", "ANPyC, pruned")
# When the schedule begins anew, how often the rate falls in epochs, and whether in steps.
PROTOCOLS = {
    "restarted": {"restart": "fit", "epochs": 5, "staircase": True},
    "smooth": {"restart": "task", "epochs": 1, "staircase": False},
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One sequence of tasks that one method learns.

    Args:
        part: `"select"`, tested on validation images, `"report"` or `"long"`.
        protocol, method: Keys of `PROTOCOLS` and `METHODS`.
        strength: Of the method.
        seed: Of weights, permutations and data order.
    """

    part: str
    protocol: str
    method: str
    strength: float
    seed: int

    @property
    def name(self):
        words = f"{self.part}_{self.protocol}_{self.method}_{self.strength:g}_{self.seed}"
        return "".join(c if c.isalnum() or c in "._" else "-" for c in words)

    def make(self, data):
        """The record of this run, made or found."""
        return trials.record(self.name, lambda path: self._train(data))

    def _train(self, data):
        begin = time.perf_counter()
        tasks, test_tasks = self._tasks(data)
        keras.utils.set_random_seed(self.seed)
        dense = task_data.multi_head_net(tasks.inputs, UNITS, tasks.classes, len(tasks))
        make_method, _ = METHODS[self.method]
        method = make_method(self.strength, len(tasks[0][1]))
        model = resrep_keras.wrap(dense, method)
        steps = -(-len(tasks[0][1]) // BATCH)
        protocol = PROTOCOLS[self.protocol]
        rate = keras.optimizers.schedules.ExponentialDecay(
            RATE, protocol["epochs"] * steps, 0.9, staircase=protocol["staircase"]
        )
        model.compile(
            keras.optimizers.SGD(rate, global_clipnorm=CLIP),
            "sparse_categorical_crossentropy",
            jit_compile=True,
            steps_per_execution=steps,
        )
        result = resrep_keras.fit_tasks(
            model,
            tasks,
            epochs_of(method, len(tasks)),
            test_tasks,
            batch_size=BATCH,
            restart=protocol["restart"],
            seed=100 * self.seed,
            verbose=0,
        )
        return {
            "accuracies": [
                [round(value, 4) for value in row[: task + 1]]
                for task, row in enumerate(result.accuracies.tolist())
            ],
            "free_capacity": [round(value, 4) for value in result.free_capacity.tolist()],
            "seconds": round(time.perf_counter() - begin, 1),
            "machine": f"{machine()}, {keras.backend.backend()}",
        }

    def _tasks(self, data):
        (x, y), (test_x, test_y) = data
        images, tests, number = FLAGS.images, FLAGS.test_images, FLAGS.tasks
        if self.part.startswith("long"):
            images, tests, number = FLAGS.long_images, FLAGS.long_test_images, FLAGS.long_tasks
        if self.part == "long_select":
            number = FLAGS.long_select_tasks
        if self.part.endswith("select"):  # behind those that any task is trained on
            end = FLAGS.images + FLAGS.validation_images
            test_x, test_y = x[FLAGS.images : end], y[FLAGS.images : end]
        pairs = (x[:images], y[:images]), (test_x[:tests], test_y[:tests])
        return [task_data.PermutedTasks(*pair, number, self.seed) for pair in pairs]


def epochs_of(method, tasks):
    """Epochs of each task before it ends: with those of its retraining, the same for all."""
    if method.prunes:
        percents = [percent_of(t, method.initial_percent, method.decay) for t in range(tasks - 1)]
        stages = [len(stages_of(percent, method.percent_step)) for percent in percents] + [0]
        return lambda task: FLAGS.epochs - method.retrain_epochs * stages[task]
    return FLAGS.epochs


# --- many runs ------------------------------------------------------------------------------------


def make_all(runs, data):
    """Make those runs that have no record yet, `--jobs` at a time; `{run: record}`."""
    runs = list(dict.fromkeys(runs))
    missing = [run for run in runs if not (trials.work_dir() / f"{run.name}.json").exists()]
    if FLAGS.phase == "page" and missing:
        raise SystemExit(f"{len(missing)} runs are not made yet, such as {missing[0]}.")
    begin = time.perf_counter()
    for done, run in enumerate(_made(missing, data), start=1):
        seconds = time.perf_counter() - begin
        print(f"{done} of {len(missing)} after {seconds:.0f} s: {run.name}", flush=True)
    return {run: run.make(data) for run in runs}


def _made(runs, data):
    if FLAGS.jobs == 1 or len(runs) < 2:
        for run in runs:
            run.make(data)
            yield run
        return
    context = multiprocessing.get_context("spawn")  # backends do not survive a fork
    with context.Pool(min(FLAGS.jobs, len(runs)), _begin_worker, (sys.argv,)) as pool:
        yield from pool.imap_unordered(_make_in_worker, runs)


def _begin_worker(words):
    """A process for many runs: what is imported and compiled once serves them all."""
    FLAGS(words)
    logging.set_verbosity(logging.WARNING)
    _make_in_worker.data = load()


def _make_in_worker(run):
    run.make(_make_in_worker.data)
    return run


# --- what is run ----------------------------------------------------------------------------------


def grid(part, protocols, methods, seeds):
    """Runs of every strength of some methods."""
    return [
        Run(part, protocol, method, strength, int(seed))
        for seed in seeds
        for protocol in protocols
        for method in methods
        for strength in METHODS[method][1]
    ]


def average(record):
    """Average accuracy in the end, in percent."""
    return 100 * resrep_keras.average_accuracy(continual_page.matrix(record))


def chosen(records):
    """`{protocol: {method: {strength: [average accuracy of each seed]}}}`, and the best of each."""
    found, best = {}, {}
    for run, record in records.items():
        strengths = found.setdefault(run.protocol, {}).setdefault(run.method, {})
        strengths.setdefault(run.strength, []).append(round(average(record), 2))
    for protocol, methods in found.items():
        for method, strengths in methods.items():
            means = {strength: np.mean(values) for strength, values in strengths.items()}
            best.setdefault(protocol, {})[method] = max(means, key=means.get)
    return found, best


def compared(part, select_part, protocols, methods, seeds, select_seeds, data):
    """Choose strengths on some seeds, and run them on others; `{protocol: {...}}`."""
    found, best = chosen(make_all(grid(select_part, protocols, methods, select_seeds), data))
    if FLAGS.phase == "select":
        return None
    runs = {
        (protocol, method): [Run(part, protocol, method, best[protocol][method], s) for s in seeds]
        for protocol in protocols
        for method in methods
    }
    by_seed = zip(*runs.values())  # one seed of all, then the next
    records = make_all([run for some in by_seed for run in some], data)
    return {
        protocol: {
            method: {
                "strength": best[protocol][method],
                "validation": found[protocol][method],
                "runs": [records[run] for run in runs[protocol, method]],
            }
            for method in methods
        }
        for protocol in protocols
    }


def load():
    """The images that any run looks at, `((x, y), (x, y))`."""
    if keras.backend.backend() == "tensorflow":
        trials.set_threads()
    trials.work_dir().mkdir(parents=True, exist_ok=True)
    data = datasets.load("fashion_mnist", FLAGS.data_dir)
    ends = FLAGS.images + FLAGS.validation_images, FLAGS.test_images
    return tuple((x[:end].copy(), y[:end]) for (x, y), end in zip(data, ends))


def main(_):
    logging.set_verbosity(logging.WARNING)
    data = load()
    seeds = list(map(int, FLAGS.seeds))
    # What concerns the result, of all that was said.
    beside = ("--work_dir", "--jobs", "--phase", "--data_dir")
    words = [word for word in sys.argv[1:] if not word.startswith(beside)]
    command = " ".join(["python benchmarks/continual.py", *words])
    result = {**trials.origin(), "command": command, "tasks": FLAGS.tasks, "epochs": FLAGS.epochs}
    result["validation_images"] = FLAGS.validation_images
    if FLAGS.phase != "long":
        result["ten"] = compared(
            *("report", "select", tuple(FLAGS.protocols), tuple(METHODS)),
            *(seeds, FLAGS.select_seeds, data),
        )
    if FLAGS.long_seeds and FLAGS.phase in ("long", "page", "all"):
        long_seeds = list(map(int, FLAGS.long_seeds))
        result["long"] = compared(
            *("long", "long_select", ("restarted",), LONG),
            *(long_seeds, FLAGS.select_seeds[:1], data),
        )
    if FLAGS.phase not in ("page", "all"):
        return
    continual_page.publish(result)
    if not all(result["bars"].values()):
        raise SystemExit("A bar is missed; see above.")


if __name__ == "__main__":
    app.run(main)
