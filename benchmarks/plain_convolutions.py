"""ResRep's defaults, and the paper's, where nothing normalises what stands behind compactors.

    python benchmarks/plain_convolutions.py

Each seed trains three convolutions without batch normalisation on scikit-learn's digits, and goes
on from there under three optimizers: dense, and with half of the MACs removed by ResRep in
several settings. Finished runs are kept in the work folder. Writes
`benchmarks/results/plain_convolutions.json` and `.md`.
"""

import keras
import numpy as np
import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS
FLAGS.set_default("epochs", 12)

BATCH = 32
NORM = {"score": "norm", "guard": 0.0}  # what the paper selects by
SETTINGS = {
    "ResRep": {},
    "by norms": NORM,
    "by norms, `compactor_rate=1`": {**NORM, "compactor_rate": 1.0},
}
OPTIMIZERS = {
    "SGD, momentum 0.9, cosine from 0.05": lambda steps: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9
    ),
    "SGD at 0.1": lambda steps: keras.optimizers.SGD(0.1),
    "Adam": lambda steps: keras.optimizers.Adam(),
}


def net():
    x = inputs = keras.Input((8, 8, 1))
    for filters in (16, 32, 32):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def fit(model, data, optimizer, seed):
    """Train; the test accuracy in percent."""
    x, y = data[0]
    keras.utils.set_random_seed(1000 + seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(OPTIMIZERS[optimizer](FLAGS.epochs * -(-len(x) // BATCH)), loss)
    model.fit(x, y, BATCH, FLAGS.epochs, verbose=0)
    return trials.accuracy(model, data)


def fit_or_diverge(model, data, optimizer, seed):
    """As `fit`; `None` where training ends in NaN, which the method refuses to go on with."""
    try:
        return fit(model, data, optimizer, seed)
    except ValueError:
        if all(np.isfinite(weights).all() for weights in model.get_weights()):
            raise
        return None


def run(optimizer, data, seed):
    """The accuracies of a seed under an optimizer."""

    def train(_):
        keras.utils.set_random_seed(seed)
        dense = net()
        found = {"dense": fit(dense, data, optimizer, seed)}
        longer = keras.models.clone_model(dense)
        longer.set_weights(dense.get_weights())
        found["dense, trained on"] = fit(longer, data, optimizer, seed)
        for label, settings in SETTINGS.items():
            model = resrep_keras.wrap(dense, resrep_keras.ResRep(0.5, **settings))
            found[label] = fit_or_diverge(model, data, optimizer, seed)
        return found

    name = "".join(c if c.isalnum() else "_" for c in optimizer)
    return trials.record(f"{name}_{seed}", train)


def cell(values):
    ended = [value for value in values if value is not None]
    diverged = len(values) - len(ended)
    words = [mean_and_spread(ended)] * bool(ended) + [f"{diverged} diverged"] * bool(diverged)
    return ", ".join(words)


def as_markdown(result):
    columns = list(next(iter(result["runs"].values()))[0])
    lines = [
        f"Made by `{result['command']}` on {result['machine']}: three convolutions without batch "
        f"normalisation, scikit-learn's digits, {result['epochs']} epochs, then {result['epochs']} "
        f"more, half of the MACs removed; test accuracy (%) of seeds {', '.join(result['seeds'])}, "
        "mean and sample standard deviation.",
        "",
    ]
    header = ("optimizer", *columns)
    table = []
    for name, runs in result["runs"].items():
        cells = [cell([run[column] for run in runs]) for column in columns]
        table.append((name, *cells))
    lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def main(_):
    trials.set_threads()
    trials.work_dir().mkdir(parents=True, exist_ok=True)
    data = trials.datasets.load_digits()
    result = {
        **{key: value for key, value in trials.origin().items() if key != "images"},
        "epochs": FLAGS.epochs,
        "runs": trials.records(OPTIMIZERS, lambda optimizer, seed: run(optimizer, data, seed)),
    }
    trials.publish(result, as_markdown)


if __name__ == "__main__":
    app.run(main)
