"""Whether residual streams lose channels where they are worth least: ResNet-20 at half the MACs.

    python benchmarks/coupled_streams.py --data_dir=<folder of idx files>

Each seed trains one dense ResNet-20 on a part of Fashion-MNIST and prunes it twice by the same
recipe: with `coupled=True`, where residual streams compete with the channels inside of blocks, and
with `coupled=False`, where they are left alone. Finished runs are kept in the work folder. Writes
`benchmarks/results/coupled_streams.json` and `.md`, which name the flags of their run: a small one
shows where channels go, and too little training to compare accuracies.
"""

import json
import sys

import trials
from absl import app, flags
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.tables import markdown_table
from resrep_keras.graph.trace import trace

FLAGS = flags.FLAGS
# What competes, by the setting of ResRep.
CHOICES = {"streams and blocks": True, "blocks alone": False}

flags.DEFINE_integer("dense_epochs", 8, "Epochs of the dense net, which each run goes on from.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_list("choices", list(CHOICES), "What to compare.")
flags.DEFINE_string("settings", "{}", "Other settings of ResRep than its defaults, as JSON.")


def shares_removed(dense, slim):
    """Shares of the channels that are gone, of residual streams and of all other groups."""
    before, after = trace(dense), resrep_keras.widths_of(slim)
    counts = {True: [0, 0], False: [0, 0]}
    for group in before.groups:
        if group.prunable:
            count = counts[group.coupled]
            count[0] += group.size
            count[1] += after[group.name]
    return {
        kind: round(1 - count[1] / count[0], 4)
        for kind, count in zip(("streams", "blocks"), (counts[True], counts[False]))
    }


def run(choice, data, seed):
    """The record of a pruning run."""

    def train(_):
        dense = trials.dense_net(data, seed, FLAGS.dense_epochs, "resnet20")
        settings = {**json.loads(FLAGS.settings), "coupled": CHOICES[choice]}
        method = resrep_keras.ResRep(FLAGS.target_reduction, **settings)
        _, slim = trials.pruned(dense, method, data, seed)
        return {
            "dense": trials.accuracy(dense, data),
            "accuracy": trials.accuracy(slim, data),
            "macs_left": round(slim.certificate.macs_left, 4),
            "removed": shares_removed(dense, slim),
        }

    return trials.record(f"{choice.replace(' ', '_')}_{seed}", train)


def _flags():
    """Those that the result depends on."""
    return [flag for flag in sys.argv[1:] if not flag.startswith(("--work_dir", "--data_dir"))]


def as_markdown(result):
    lines = [trials.made_by(result), ""]
    header = (
        "what competes",
        "streams removed (%)",
        "blocks removed (%)",
        "MACs left (%)",
        "dense net before (%)",
        "test accuracy (%)",
        "by seed",
    )
    table = []
    for name, runs in result["runs"].items():
        values = [run["accuracy"] for run in runs]
        shares = [
            mean_and_spread([100 * run["removed"][kind] for run in runs])
            for kind in ("streams", "blocks")
        ]
        left = mean_and_spread([100 * run["macs_left"] for run in runs])
        dense = mean_and_spread([run["dense"] for run in runs])
        table.append(
            (
                name,
                shares[0],
                shares[1],
                left,
                dense,
                mean_and_spread(values),
                trials.by_seed(values),
            )
        )
    lines += markdown_table(header, table)
    return "\n".join(lines) + "\n"


def main(_):
    data = trials.begin()
    result = trials.pruning_runs(CHOICES, lambda choice, seed: run(choice, data, seed))
    result["command"] = " ".join(["python benchmarks/coupled_streams.py", *_flags()])
    trials.publish(result, as_markdown)


if __name__ == "__main__":
    app.run(main)
