"""Until when may a net be pruned? Its plasticity at several points, over learning-rate drops.

    python examples/pruning_plasticity.py
    python examples/pruning_plasticity.py --data_dir=/path/to/idx_files --limit=10000

A net is trained with a rate that drops to a tenth at 1/2 and 3/4 of its epochs. At each point that
is asked for, a copy is pruned at once and trained on at the rate of that point; the plasticity is
what the accuracy has gained or lost then. Before the first drop it is high, after it low.
"""

import json
import pathlib

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import numpy as np
import run_flags
from absl import app, flags
from keras import layers

from resrep_keras.common.files import write_text
from resrep_keras.common.tables import markdown_table
from resrep_keras.workflow.plasticity import pruning_plasticity

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, datasets.HELP)
flags.DEFINE_string("data_dir", None, "A folder of idx files, or where tfds keeps its data.")
run_flags.count("limit", None, "Use only so many training images.")
AT_LEAST_1 = int, lambda value: value >= 1, "ints of 1 or more"
run_flags.numbers("units", ["100", "50"], "Units of the hidden layers.", *AT_LEAST_1)
run_flags.count("epochs", 24, "Epochs of the whole run.")
run_flags.numbers(
    "points", ["6", "11", "13", "17", "21"], "Epochs behind which to prune.", *AT_LEAST_1
)
run_flags.count("more", 4, "Epochs of training after pruning, k.")
run_flags.share("sparsity", 0.9, "Share of the weights to prune, of all layers together.")
run_flags.numbers(
    "regrow_rates",
    ["0", "0.5"],
    "Rates of regrowth to compare.",
    float,
    lambda value: 0 <= value < 1,
    "numbers of 0 or more, below 1",
)
run_flags.count("interval", 10, "Steps between updates of the masks where weights regrow.")
flags.DEFINE_float("regrow_end", 1.0, "Share of the training in which they do; 0 is once.")
run_flags.within("regrow_end", lambda value: 0 <= value <= 1, "a number from 0 to 1")
run_flags.rate("rate", 0.1, "Learning rate before the drops.")
run_flags.count("batch_size", 64, "Examples in a step.")
run_flags.numbers(
    "seeds", ["0"], "Seeds of weights and data order.", int, lambda value: value >= 0, "ints"
)
run_flags.whole("threads", 0, "Threads of TensorFlow; 0 for all.")
flags.DEFINE_string("write", None, "Where to write results, a path without an ending.")


@flags.multi_flags_validator(["points", "epochs"], "points lie within the epochs of the run")
def _points_within(values):
    return all(int(point) <= values["epochs"] for point in values["points"])


def rate_at(epoch):
    """The learning rate of an epoch, counted from 0."""
    drops = (epoch >= FLAGS.epochs / 2) + (epoch >= 3 * FLAGS.epochs / 4)
    return FLAGS.rate / 10**drops


def net(shape, classes):
    decay = {"kernel_regularizer": keras.regularizers.L2(2.5e-4)}
    x = inputs = keras.Input(shape)
    x = layers.Flatten()(x)
    for units in map(int, FLAGS.units):
        x = layers.Dense(units, activation="relu", **decay)(x)
    return keras.Model(inputs, layers.Dense(classes, **decay)(x))


def trainer(data, epoch, epochs):
    """A function that trains a model for some epochs at the rate of `epoch`."""

    def train(model):
        model.compile(
            keras.optimizers.SGD(rate_at(epoch), momentum=0.9, nesterov=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(*data, batch_size=FLAGS.batch_size, epochs=epochs, verbose=0)

    return train


def accuracy(test):
    x, y = test
    return lambda model: 100 * (model.predict(x, batch_size=1000, verbose=0).argmax(-1) == y).mean()


def points_of(data, test, seed):
    """One row for each point of the run and each rate of regrowth."""
    keras.utils.set_random_seed(seed)
    x, y = data
    model = net(x.shape[1:], int(y.max()) + 1)
    done = 0
    for point in sorted(map(int, FLAGS.points)):
        while done < point:
            epochs = 1 + sum(rate_at(e) == rate_at(done) for e in range(done + 1, point))
            trainer(data, done, epochs)(model)
            done += epochs
        for regrow_rate in map(float, FLAGS.regrow_rates):
            found = pruning_plasticity(
                model,
                trainer(data, point - 1, FLAGS.more),
                accuracy(test),
                FLAGS.sparsity,
                regrow_rate=regrow_rate,
                regrow_end=FLAGS.regrow_end,
                interval=FLAGS.interval if regrow_rate else None,
            )
            row = {
                "seed": seed,
                "epoch": point,
                "learning_rate": rate_at(point - 1),
                "regrow_rate": regrow_rate,
                **{k: round(getattr(found, k), 2) for k in ("before", "pruned", "after", "value")},
            }
            print(row, flush=True)
            yield row


def as_markdown(rows):
    """Means over the seeds."""
    header = (
        "epoch",
        "learning rate",
        "regrowth",
        "before (%)",
        "pruned (%)",
        "after (%)",
        "plasticity",
    )
    table = []
    keys = {(row["epoch"], row["regrow_rate"]): row for row in rows}
    for (epoch, regrow_rate), one in keys.items():
        same = [r for r in rows if (r["epoch"], r["regrow_rate"]) == (epoch, regrow_rate)]
        means = {k: np.mean([r[k] for r in same]) for k in ("before", "pruned", "after", "value")}
        spread = np.std([r["value"] for r in same], ddof=1) if len(same) > 1 else 0.0
        table.append(
            (
                epoch,
                f"{one['learning_rate']:g}",
                f"{regrow_rate:g}",
                f"{means['before']:.2f}",
                f"{means['pruned']:.2f}",
                f"{means['after']:.2f}",
                f"{means['value']:+.2f} ± {spread:.2f}",
            )
        )
    lines = markdown_table(header, table)
    return "\n".join(lines) + "\n"


def main(_):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
    (x, y), test = datasets.load(FLAGS.dataset, FLAGS.data_dir)
    data = x[: FLAGS.limit], y[: FLAGS.limit]
    rows = [row for seed in map(int, FLAGS.seeds) for row in points_of(data, test, seed)]
    table = as_markdown(rows)
    print(table)
    if FLAGS.write:
        path = pathlib.Path(FLAGS.write)
        settings = {k: getattr(FLAGS, k) for k in ("dataset", "limit", "units", "epochs", "more")}
        settings |= {k: getattr(FLAGS, k) for k in ("sparsity", "interval", "regrow_end")}
        settings |= {k: getattr(FLAGS, k) for k in ("batch_size", "seeds")}
        given = {"settings": settings, "rows": rows}
        write_text(path.with_suffix(".json"), json.dumps(given, indent=1) + "\n")
        words = ", ".join(f"{key}={value}" for key, value in settings.items())
        write_text(
            path.with_suffix(".md"),
            f"Made by `python pruning_plasticity.py`, {words}; mean and sample standard deviation "
            f"over the seeds.\n\n{table}",
        )


if __name__ == "__main__":
    app.run(main)
