"""All methods that remove channels, at the same cost: one table.

    python benchmarks/compare_methods.py --data_dir=<folder of idx files>

Each seed trains one dense net on a part of Fashion-MNIST; each method goes on from it with the same
recipe for the same number of epochs, and removes the same share of the MACs. Finished runs are kept
in the work folder, so that a comparison that was stopped goes on. Writes
`benchmarks/results/compare_methods.json`, `.md` and `.png`.
"""

import keras
import numpy as np
import trials
from absl import app, flags
from common import RESULTS
from trials import mean_and_spread

import resrep_keras
from resrep_keras.common.files import write_figure
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS

# What prunes: the title, and the method for a target and a seed.
METHODS = {
    "random": ("random channels", lambda cut, seed: resrep_keras.RandomPruning(cut, seed=seed)),
    "l1": ("L1 of kernels", lambda cut, seed: resrep_keras.MagnitudePruning(cut)),
    "fpgm": ("FPGM", lambda cut, seed: resrep_keras.FPGM(cut)),
    "taylor": ("Taylor", lambda cut, seed: resrep_keras.TaylorPruning(cut)),
    "slimming": (
        "network slimming",
        lambda cut, seed: resrep_keras.NetworkSlimming(
            cut, at=0.5, strength=FLAGS.slimming_strength
        ),
    ),
    "lasso": (
        "group lasso on kernels",
        lambda cut, seed: resrep_keras.GroupLasso(cut, at=0.5, strength=FLAGS.lasso_strength),
    ),
    "aofp": ("AOFP", lambda cut, seed: resrep_keras.AOFP(cut, seed=seed)),
    "resrep": ("ResRep", lambda cut, seed: resrep_keras.ResRep(cut)),
}
# What does not: the dense net that goes on, and nets of ResRep's widths that start anew.
OTHERS = {"longer": "dense, trained on", "scratch": "ResRep's widths from scratch"}
TITLES = {**{name: title for name, (title, _) in METHODS.items()}, **OTHERS}

flags.DEFINE_list("methods", ["longer", *METHODS, "scratch"], "What to compare.")
flags.DEFINE_integer("dense_epochs", 6, "Epochs of the dense net, which each run goes on from.")
flags.DEFINE_float("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_float("slimming_strength", 1e-3, "Strength of NetworkSlimming.")
flags.DEFINE_float("lasso_strength", 3e-4, "Strength of GroupLasso.")


def trained(name, dense, data, seed):
    """The model at the end of a run: slim, or one of the others."""
    if name in METHODS:
        model = resrep_keras.wrap(dense, METHODS[name][1](FLAGS.target_reduction, seed))
        trials.fit(model, data, FLAGS.epochs, seed)
        return resrep_keras.finalize(model, strict=True)
    model, epochs = dense, FLAGS.epochs
    if name == "scratch":
        keras.utils.set_random_seed(seed)
        model = resrep_keras.redesign(dense, run("resrep", data, seed)["widths"])
        epochs += FLAGS.dense_epochs
    trials.fit(model, data, epochs, seed)
    return model


def run(name, data, seed):
    """The record of a run."""

    def train(_):
        dense = trials.dense_net(data, seed, FLAGS.dense_epochs)
        before = trials.accuracy(dense, data)
        model = trained(name, dense, data, seed)
        return {
            "accuracy": trials.accuracy(model, data),
            "dense_accuracy": before,
            "macs_left": round(resrep_keras.count_macs(model) / resrep_keras.count_macs(dense), 4),
            "widths": resrep_keras.widths_of(model),
        }

    return trials.record(f"{name}_{seed}", train)


def values_of(runs, key):
    return [run[key] for run in runs]


def as_markdown(result):
    first, second = result["epochs"]
    runs = result["runs"]
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; small_resnet, {result['images']:,} "
        f"images of Fashion-MNIST, {len(result['seeds'])} seeds, mean and sample standard "
        f"deviation. All start from the same dense net of {first} epochs, which has "
        f"{mean_and_spread(values_of(next(iter(runs.values())), 'dense_accuracy'))} %, and train "
        f"{second} epochs more by the same recipe; target_reduction={result['target_reduction']}.",
        "",
    ]
    header = (
        "method",
        "test accuracy (%)",
        "by seed",
        "to the dense net of the same seed",
        "MACs left (%)",
    )
    table = []
    for name in ranked(runs):
        left = 100 * np.mean([run["macs_left"] for run in runs[name]])
        pairs = list(zip(runs[name], runs.get("longer", runs[name])))
        behind = [run["accuracy"] - dense["accuracy"] for run, dense in pairs]
        values = values_of(runs[name], "accuracy")
        table.append(
            (
                TITLES[name],
                mean_and_spread(values),
                trials.by_seed(values),
                f"{np.mean(behind):+.2f} ± {trials.spread(behind):.2f}",
                f"{left:.1f}",
            )
        )
    lines += markdown_table(header, table)
    settings = ", ".join(f"{key}={value:g}" for key, value in result["strengths"].items())
    end = (
        f"Strengths of the penalties, chosen on another seed: {settings}. What starts from scratch "
        f"trains {first + second} epochs."
    )
    return "\n".join([*lines, "", end]) + "\n"


def ranked(runs):
    """Names by their mean accuracy, the best first."""
    return sorted(runs, key=lambda name: -np.mean([run["accuracy"] for run in runs[name]]))


def plot(result):
    """Mean and range of the accuracy by method, as a figure."""
    from matplotlib.figure import Figure

    runs = result["runs"]
    names = ranked(runs)[::-1]
    figure = Figure(figsize=(7, 0.6 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = [run["accuracy"] for run in runs[name]]
        color = {"resrep": "#2f6fb5", "longer": "#222222"}.get(name, "#c7622b")
        axes.plot([min(values), max(values)], [place] * 2, color=color, lw=2, alpha=0.4)
        axes.plot(values, [place] * len(values), "o", color=color, ms=3, alpha=0.5, mew=0)
        axes.plot(np.mean(values), place, "D", color=color, ms=6, mew=0)
    axes.set_yticks(range(len(names)), [TITLES[name] for name in names])
    axes.set_xlabel("test accuracy (%)")
    axes.set_title(
        f"{100 * result['target_reduction']:.0f} % of the MACs removed, equal epochs; mean and "
        f"range of {len(result['seeds'])} seeds",
        fontsize=9,
    )
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def main(_):
    data = trials.begin()
    result = {
        **trials.origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": FLAGS.target_reduction,
        "strengths": {"slimming": FLAGS.slimming_strength, "lasso": FLAGS.lasso_strength},
        "runs": trials.records(FLAGS.methods, lambda name, seed: run(name, data, seed)),
    }
    trials.publish(result, as_markdown)
    if FLAGS.write:
        write_figure(RESULTS / "compare_methods.png", plot(result))


if __name__ == "__main__":
    app.run(main)
