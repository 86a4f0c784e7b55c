"""How well AOFP's scores agree with the oracles that they approximate.

    python benchmarks/aofp_oracle.py --data_dir=<folder of idx files>

A net of three convolutions (8, 16, 32 channels) is trained on Fashion-MNIST and frozen. AOFP's mean
damages over random halves are compared, by Spearman's rank correlation, with

1. the damage of leaving out each channel alone;
2. for the 8 channels of the first layer, the mean damage over all 70 halves, which they estimate;
3. for the 16 channels of the second layer, the four that the binary search (16, 8, 4) chooses:
   their rank among all 1,820 sets of four, by damage done together.

Exits with an error where a bar is missed: 0.4, 0.95, and the best 15 %. Writes
`benchmarks/results/aofp_oracle.json` and `.md`.
"""

import itertools
import sys

import keras
import numpy as np
import trials
from absl import app, flags
from keras import layers, ops

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.methods.channels.ablation import searches_of
from resrep_keras.methods.channels.channel_state import ChannelState

FLAGS = flags.FLAGS
FLAGS.set_default("images", 20_000)
FLAGS.set_default("epochs", 3)
flags.DEFINE_integer("batches", 1_000, "Batches of 64 that a score is the mean of.")
flags.DEFINE_integer("oracle_images", 512, "Images on which oracles are computed.")

BARS = {"leave_one_out": 0.4, "halves": 0.95, "best_share": 0.15}


def train(data, seed):
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((28, 28, 1))
    for filters, strides in ((8, 2), (16, 2), (32, 1)):
        x = trials.nets.conv_bn(x, filters, strides=strides)
    model = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    (x, y), test = data
    rate = keras.optimizers.schedules.CosineDecay(0.1, FLAGS.epochs * -(-len(x) // 128))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=FLAGS.epochs, verbose=0)
    return model, model.evaluate(*test, batch_size=1000, verbose=0)[1]


class Layer:
    """One searched layer of a frozen net: its scores by AOFP, and the damage of any set."""

    def __init__(self, model, search, x):
        self._search, self._model = search, model
        (reader,) = search.readers
        names = [name for name in reader.chain if not name.endswith("_compactor")]
        read = keras.Model(model.input, model.get_layer(names[0]).input)
        self._block = keras.Sequential([model.get_layer(name) for name in names])
        self._read = read.predict(x[: FLAGS.oracle_images], verbose=0)
        self._whole = self._run(np.ones(self.channels, "float32"))

    @property
    def channels(self):
        return len(self._search.ids)

    def _run(self, kept):
        y = self._read * kept
        for layer in self._block.layers:
            y = layer(y)
        return ops.convert_to_numpy(y)

    def damage(self, channels):
        kept = np.ones(self.channels, "float32")
        kept[list(channels)] = 0
        cut = self._run(kept)
        return float(np.square(self._whole - cut).sum() / np.square(self._whole).sum())

    def scores(self, step, x, candidates=None):
        """Mean damages that AOFP measures over random halves of the candidates."""
        layer = self._search.compactor
        layer.begin(np.ones(self.channels, bool) if candidates is None else candidates, 0)
        generator = np.random.default_rng(0)
        for _ in range(FLAGS.batches):
            step(x[generator.integers(0, len(x), 64)])
        layer.begun.assign(-1)
        return layer.means()

    def halves(self):
        """Mean damage over all halves with each channel."""
        total = np.zeros(self.channels)
        for half in itertools.combinations(range(self.channels), self.channels // 2):
            total[list(half)] += self.damage(half)
        number = len(list(itertools.combinations(range(self.channels - 1), self.channels // 2 - 1)))
        return total / number

    def searched(self, step, x, number):
        """The channels that are left when the search set was halved down to `number`."""
        candidates = np.ones(self.channels, bool)
        while candidates.sum() > number:
            means = np.where(candidates, self.scores(step, x, candidates), np.inf)
            chosen = np.argsort(means)[: int(candidates.sum()) // 2]
            candidates = np.isin(np.arange(self.channels), chosen)
        return np.flatnonzero(candidates)


def spearman(first, second):
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def measure(data, seed):
    model, accuracy = train(data, seed)
    wrapped = resrep_keras.wrap(model, resrep_keras.AOFP(0.1, seed=seed))
    for layer in wrapped.layers:  # frozen: the same statistics in every pass
        layer.trainable = not isinstance(layer, layers.BatchNormalization)
    x = data[0][0]
    searched = [Layer(wrapped, s, x) for s in searches_of(ChannelState(wrapped))[:2]]
    step = keras.backend.backend() == "tensorflow" and _compiled(wrapped)
    row = {"seed": seed, "accuracy": round(100 * accuracy, 2), "leave_one_out": []}
    for layer in searched:
        alone = [layer.damage([channel]) for channel in range(layer.channels)]
        row["leave_one_out"].append(round(spearman(layer.scores(step, x), alone), 3))
    row["halves"] = round(spearman(searched[0].scores(step, x), searched[0].halves()), 3)
    chosen = searched[1].searched(step, x, 4)
    mine = searched[1].damage(chosen)
    sets = itertools.combinations(range(searched[1].channels), 4)
    better = [searched[1].damage(each) < mine for each in sets]
    row["rank"], row["sets"] = int(np.sum(better)) + 1, len(better)
    row["best_share"] = round(row["rank"] / row["sets"], 4)
    return row


def _compiled(model):
    import tensorflow as tf

    return tf.function(lambda batch: model(batch, training=True), reduce_retracing=True)


def missed(rows):
    for row in rows:
        if min(row["leave_one_out"]) < BARS["leave_one_out"]:
            yield f"seed {row['seed']}: {row['leave_one_out']} against leaving out one channel"
        if row["halves"] <= BARS["halves"]:
            yield f"seed {row['seed']}: {row['halves']} against all halves"
        if row["best_share"] > BARS["best_share"]:
            yield f"seed {row['seed']}: rank {row['rank']} of {row['sets']}"


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {result['images']:,} images, "
        f"{result['epochs']} epochs, scores over {result['batches']:,} batches of 64.",
        "",
    ]
    header = (
        "seed",
        "test accuracy (%)",
        "leaving out one: 8, 16 channels",
        "all 70 halves of 8",
        "binary search 16 to 4: rank of 1,820",
    )
    table = []
    for row in result["rows"]:
        alone = ", ".join(f"{value:.2f}" for value in row["leave_one_out"])
        table.append(
            (
                row["seed"],
                f"{row['accuracy']:.2f}",
                alone,
                f"{row['halves']:.3f}",
                f"{row['rank']} (best {100 * row['best_share']:.1f} %)",
            )
        )
    lines += markdown_table(header, table)
    lines += ["", "The columns in the middle are Spearman's rank correlations."]
    return "\n".join(lines) + "\n"


def main(_):
    data = trials.begin()
    rows = []
    for seed in map(int, FLAGS.seeds):
        rows.append(measure(data, seed))
        print(rows[-1], flush=True)
    result = {**trials.origin(), "epochs": FLAGS.epochs, "batches": FLAGS.batches, "rows": rows}
    trials.publish(result, as_markdown)
    problems = list(missed(rows))
    if problems:
        sys.exit("Below its bar: " + "; ".join(problems))


if __name__ == "__main__":
    app.run(main)
