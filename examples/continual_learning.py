"""One net learns one task after the other, and keeps what it has learned.

    python examples/continual_learning.py
    python examples/continual_learning.py --method=ewc --strength=30
    python examples/continual_learning.py --kind=split --data_dir=/path/to/idx_files
    python examples/continual_learning.py --tasks=50 --limit=300 --epochs=5  # a long sequence

Each task sees the pixels in an order of its own, or tells two of the classes apart; the net has a
trunk for all tasks, and a head for each. Writes a table, its JSON and figures, and goes on where it
was stopped, behind the last task that was ended.
"""

import pathlib

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import run_flags
import task_data
from absl import app, flags

import resrep_keras
from resrep_keras.common.files import write_figure, write_text
from resrep_keras.common.tables import markdown_table

METHODS = {
    "anpyc": lambda strength: resrep_keras.ANPyC(strength, retrain_epochs=FLAGS.retrain_epochs),
    "anpyc_whole": lambda strength: resrep_keras.ANPyC(strength, initial_percent=None),
    "ewc": resrep_keras.EWC,
    "mas": resrep_keras.MAS,
    "si": resrep_keras.SynapticIntelligence,
    "finetune": lambda strength: resrep_keras.FineTuning(),
}

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, datasets.HELP)
flags.DEFINE_string("data_dir", None, "A folder of idx files, or where tfds keeps its data.")
run_flags.count("limit", None, "Use only so many training images.")
flags.DEFINE_enum("kind", "permuted", sorted(task_data.KINDS), "What differs between the tasks.")
run_flags.count("tasks", 10, "Number of tasks.")
flags.DEFINE_enum("method", "anpyc", sorted(METHODS), "What keeps the net from forgetting.")
flags.DEFINE_float("strength", 1.0, "How firmly it holds the weights that earlier tasks need.")
run_flags.within("strength", lambda value: 0 <= value < float("inf"), "a number of 0 or more")
run_flags.numbers(
    "units",
    ["64", "32"],
    "Units of the trunk's layers.",
    int,
    lambda value: value >= 1,
    "ints of 1 or more",
)
run_flags.count("epochs", 10, "Epochs of each task.")
run_flags.whole("retrain_epochs", 2, "Epochs of retraining behind each stage of anpyc's pruning.")
run_flags.count("batch_size", 32, "Examples in a step.")
run_flags.rate("rate", 0.1, "Learning rate at the beginning of each task.")
run_flags.whole("seed", 0, "Seed of weights, tasks and data order.")
flags.DEFINE_string("output_dir", "output/continual", "Where the results go.")


def table(result):
    """A line for each task: how well it was learned, and what is left in the end."""
    header = ("task", "when learned (%)", "in the end (%)", "free capacity after it (%)")
    table = []
    for task, free in enumerate(result.free_capacity):
        learned, left = result.accuracies[task, task], result.accuracies[-1, task]
        table.append((task, f"{100 * learned:.2f}", f"{100 * left:.2f}", f"{100 * free:.2f}"))
    lines = markdown_table(header, table)
    words = (
        f"{FLAGS.method} on {len(result.free_capacity)} {FLAGS.kind} tasks: average accuracy "
        f"{100 * result.average_accuracy:.2f} %, forgetting {100 * result.forgetting:.2f} points, "
        f"accuracy when learned {100 * result.learning_accuracy:.2f} %."
    )
    return "\n".join([words, "", *lines]) + "\n"


def main(_):
    (x, y), (test_x, test_y) = datasets.load(FLAGS.dataset, FLAGS.data_dir)
    kind = task_data.KINDS[FLAGS.kind]
    tasks = kind(x[: FLAGS.limit], y[: FLAGS.limit], FLAGS.tasks, FLAGS.seed)
    test_tasks = kind(test_x, test_y, FLAGS.tasks, FLAGS.seed)
    folder = pathlib.Path(FLAGS.output_dir)
    run_flags.keep(folder)

    keras.utils.set_random_seed(FLAGS.seed)
    units = map(int, FLAGS.units)
    dense = task_data.multi_head_net(tasks.inputs, units, tasks.classes, FLAGS.tasks)
    model = resrep_keras.wrap(dense, METHODS[FLAGS.method](FLAGS.strength))
    steps = 5 * -(-len(tasks[0][1]) // FLAGS.batch_size)
    schedule = keras.optimizers.schedules.ExponentialDecay(FLAGS.rate, steps, 0.9, staircase=True)
    model.compile(
        keras.optimizers.SGD(schedule, clipnorm=5.0),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    result = resrep_keras.fit_tasks(
        model,
        tasks,
        FLAGS.epochs,
        test_tasks,
        batch_size=FLAGS.batch_size,
        seed=FLAGS.seed,
        folder=folder / "kept",
        verbose=0,
    )
    result.to_json(folder / "result.json")
    write_text(folder / "result.md", table(result))
    write_figure(folder / "tasks.png", result.plot())
    print(f"{table(result)}\nTable, JSON and figure are in {folder.resolve()}")


if __name__ == "__main__":
    app.run(main)
