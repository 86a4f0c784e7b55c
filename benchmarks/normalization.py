"""Which normalisation of the scores should be the default: raw norms, per layer, or per cost saved.

    python benchmarks/normalization.py --data_dir=<folder of idx files>

Each seed trains one dense net on a part of Fashion-MNIST; each normalisation goes on from it with
the same recipe and removes the same share of the MACs. Finished runs are kept in the work folder.
Writes `benchmarks/results/normalization.json` and `.md`.
"""

import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_list("normalizations", ["none", "layer", "cost"], "What to compare.")
flags.DEFINE_integer("dense_epochs", 6, "Epochs of the dense net, which each run goes on from.")
flags.DEFINE_float("target_reduction", 0.6, "Share of the MACs to remove.")


def run(normalization, data, seed):
    """The record of a pruning run."""

    def train(_):
        method = resrep_keras.ResRep(FLAGS.target_reduction, normalization=normalization)
        dense = trials.dense_net(data, seed, FLAGS.dense_epochs)
        model, slim = trials.pruned(dense, method, data, seed)
        return {
            "accuracy": trials.accuracy(model, data),
            "macs_left": round(slim.certificate.macs_left, 4),
            "widths": [w.shape[-1] for w in slim.weights if w.path.endswith("kernel")],
        }

    return trials.record(f"{normalization}_{seed}", train)


def as_markdown(result):
    lines = [trials.made_by(result), ""]
    header = ("`normalization`", "test accuracy (%)", "by seed", "narrowest layer, by seed")
    table = []
    for name, runs in result["runs"].items():
        values = [run["accuracy"] for run in runs]
        table.append(
            (
                f"`{name}`",
                mean_and_spread(values),
                trials.by_seed(values),
                ", ".join(str(min(run["widths"])) for run in runs),
            )
        )
    lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def main(_):
    data = trials.begin()
    names = FLAGS.normalizations
    result = trials.pruning_runs(names, lambda name, seed: run(name, data, seed))
    trials.publish(result, as_markdown)


if __name__ == "__main__":
    app.run(main)
