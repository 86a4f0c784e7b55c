"""Torch-Pruning on the nets, seeds and reductions of `accuracy.py`, from the same dense nets.

    python benchmarks/accuracy.py --variants --most_stages=1 --seeds=10,11 --work_dir=<folder>
    python benchmarks/torch_pruning.py --dense_dir=<folder> --split=choice

Torch-Pruning and PyTorch live in an environment of their own, which is made in the work folder by
`pip`; this project does not depend on them. The dense nets that `accuracy.py` has kept are built
again in PyTorch (`torch_side/nets.py`) and given the same weights; where outputs differ by more
than 1e-4, or the counts of multiply-adds at all, nothing is run. Images, their order in each epoch,
batches, optimizer, rate and the number of epochs are those of `accuracy.py` under JAX, and so is
the share of multiply-adds that is removed.

Methods: `l2`, `taylor`, `bn_scale_plain` (pruned first, then trained), `bn_scale` and `group_norm`
(sparse training in the first half of the epochs), `longer` (the dense net trained on, which shows
that both sides train alike); `l2_once` and `taylor_once` rank channels once instead of ten times.
The strength of `group_norm` is chosen on seed 10 of `--split=choice`, for each net at its first
reduction; runs of other strengths there are rows of their own.

Each run is kept in the work folder in the form of `accuracy.py`'s, so that a benchmark that was
stopped goes on. Writes `benchmarks/results/torch_pruning.json` and `.md`.
"""

import pathlib

import accuracy
import accuracy_tables
import environment
import numpy as np
import pool
import programs
import trials
from absl import app, flags
from accuracy_tables import PEER
from torch_side import layouts

import resrep_keras

FLAGS = flags.FLAGS
flags.DEFINE_enum("split", "choice", ["choice", "table"], "Whose images.")
flags.DEFINE_list("cuts", ["0.7", "0.5", "0.85"], "Shares of the MACs to remove.")
flags.DEFINE_list(
    "methods",
    ["longer", "l2", "taylor", "bn_scale_plain", "bn_scale", "group_norm"],
    "Which to run.",
)
flags.DEFINE_string("dense_dir", None, "Work folder of accuracy.py; by default this one's.")
flags.DEFINE_string("python", None, "Python that has both packages; by default one is made.")

PACKAGES = ("torch==2.13.0", "torch-pruning==1.6.1", "numpy")
CHOICE_SEED = 10
STRENGTHS = (2e-3, 5e-4, 8e-3)
STEPS = 10  # importances are taken again after each
METHODS = {
    "l2": ("magnitude", {"steps": STEPS}),
    "l2_once": ("magnitude", {"steps": 1}),
    "taylor": ("taylor", {"steps": STEPS}),
    "taylor_once": ("taylor", {"steps": 1}),
    "bn_scale_plain": ("bn_scale", {"steps": STEPS}),
    "bn_scale": ("bn_scale", {"steps": STEPS, "strength": 5e-4}),
    **{
        f"group_norm {strength:g}": ("group_norm", {"steps": STEPS, "strength": strength})
        for strength in STRENGTHS
    },
}


# --- what the other side reads -------------------------------------------------------------------


def write_start(folder, net, seed, data):
    """Weights, cost and outputs of a dense net; whether `accuracy.py` has trained it."""
    kept = dense_dir() / f"dense_{net}_{seed}.npz"
    if not kept.exists():
        return False

    def make(path):
        model = programs.make(net)
        with np.load(kept) as file:
            weights = accuracy._nested(file)
        own = [layer for layer in model.layers if layer.weights]
        for layer, values in zip(own, weights, strict=True):
            layer.set_weights(values)
        x = data[1][0][:250]
        np.savez(
            path,
            inputs=x,
            outputs=model.predict(x, verbose=0),
            macs=resrep_keras.count_macs(model),
            **layouts.carried_over(model, weights),
        )

    trials.kept(folder / f"start_{net}_{seed}.npz", make)
    return True


def write_shared(folder, split, seeds, data):
    (x, y), (test_x, test_y) = data
    arrays = {"train_x": x, "train_y": y, "test_x": test_x, "test_y": test_y}
    trials.kept(folder / f"data_{split}.npz", lambda path: np.savez(path, **arrays))
    for seed in seeds:
        order = layouts.order_of(seed, FLAGS.epochs, len(x))
        path = folder / f"order_{seed}_{FLAGS.epochs}.npz"
        trials.kept(path, lambda fresh, order=order: np.savez(fresh, order=order))


def dense_dir():
    return pathlib.Path(FLAGS.dense_dir or trials.work_dir())


def python():
    """The interpreter of the other side; its environment is made once."""
    if FLAGS.python:
        return FLAGS.python
    return environment.python(trials.work_dir() / "torch_env", PACKAGES)


# --- runs ----------------------------------------------------------------------------------------


def task_of(stage, label, net, seed, cut=None, kind=None, settings=None):
    parts = [PEER + label, net, *([] if cut is None else [f"{cut:g}"]), str(seed)]
    return {
        "name": "_".join(parts),
        "stage": stage,
        "program": "torch",
        "after": None,
        "split": FLAGS.split,
        "label": PEER + label,
        "net": net,
        "seed": seed,
        "cut": cut,
        "kind": kind,
        "settings": settings or {},
        "epochs": FLAGS.epochs,
    }


def chosen_strength(results, net):
    """The label of `group_norm` that was best on the seed of the choice, the first if none was."""
    found = [
        run
        for run in results.values()
        if run["split"] == "choice"
        and run["seed"] == CHOICE_SEED
        and run["net"] == net
        and run["kind"] == "group_norm"
    ]
    if not found:
        return f"group_norm {STRENGTHS[0]:g}"
    cut = next(float(cut) for cut in [*FLAGS.cuts, found[0]["cut"]] if float(cut) in _cuts(found))
    at_cut = [run for run in found if run["cut"] == cut]
    return max(at_cut, key=lambda run: run["accuracy"])["label"].removeprefix(PEER)


def _cuts(runs):
    return {run["cut"] for run in runs}


def stages(cells):
    """Strengths on the seed of the choice, then all methods, in the order of the flags."""
    cuts = list(map(float, FLAGS.cuts))
    own = [name for name in METHODS if name.startswith("group_norm")]

    def strengths(results):
        if "group_norm" not in FLAGS.methods or FLAGS.split != "choice":
            return []
        return [
            task_of(place, name, net, seed, cuts[0], *METHODS[name])
            for place, (net, seed) in enumerate(cells)
            if seed == CHOICE_SEED
            for name in own
        ]

    def every(results):
        found = []
        for cut in cuts:
            for net, seed in cells:
                for method in FLAGS.methods:
                    stage = 100 + len(found)
                    if method == "longer":
                        found.append(task_of(stage, method, net, seed))
                        continue
                    group = method == "group_norm"
                    label = chosen_strength(results, net) if group else method
                    found.append(task_of(stage, label, net, seed, cut, *METHODS[label]))
        return found

    return [strengths, every]


def main(_):
    choice = FLAGS.split == "choice"
    seeds = list(map(int, FLAGS.seeds or (["10", "11", "12"] if choice else list("01234"))))
    FLAGS.seeds = list(map(str, seeds))
    folder = trials.work_dir()
    folder.mkdir(parents=True, exist_ok=True)
    data = accuracy.images(FLAGS.split)
    write_shared(folder, FLAGS.split, seeds, data)
    every = [(net, seed) for net in FLAGS.nets for seed in seeds]
    cells = [cell for cell in every if write_start(folder, *cell, data)]
    if missing := sorted({f"{net} {seed}" for net, seed in set(every) - set(cells)}):
        print(f"No dense net, to be trained by accuracy.py: {', '.join(missing)}.", flush=True)
    plan = pool.Plan(stages(cells), folder, FLAGS.collect, FLAGS.time_limit)
    side = pathlib.Path(__file__).parent / "torch_side" / "worker.py"
    pool.run_all(plan, FLAGS.jobs, [python(), "-E", str(side), str(folder)])
    theirs = sorted(plan.results.values(), key=lambda run: run["name"])
    own = accuracy_tables.kept_runs(dense_dir(), FLAGS.split) if dense_dir() != folder else []
    result = {
        **trials.origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "split": FLAGS.split,
        "packages": PACKAGES,
        "strengths": {net: chosen_strength(plan.results, net) for net in FLAGS.nets},
        "runs": own + [run for run in theirs if run["split"] == FLAGS.split],
    }
    trials.publish(result, as_markdown)


def as_markdown(result):
    """The table of `accuracy_tables.py`, of both sides, and what is known beside it."""
    runs = result["runs"]
    pruned = [run for run in runs if run["cut"] is not None]
    labels = sorted({run["label"] for run in pruned}, key=lambda name: _rank(name, pruned))
    lines = [accuracy_tables.as_markdown(result, result["split"], labels)]
    both = _in_both(runs, "longer", f"{PEER}longer")
    if both:
        means = np.mean(both, 0)
        lines.append(
            f"The dense nets trained on, {len(both)} runs: {means[0]:.2f} % in Keras, "
            f"{means[1]:.2f} % in PyTorch."
        )
    tried = {run["net"] for run in runs if run["kind"] == "group_norm"}
    if tried:
        names = ", ".join(f"`{result['strengths'][net]}` ({net})" for net in sorted(tried))
        lines.append(f"Strengths chosen on seed {CHOICE_SEED} of the choice: {names}.")
    lines.append(f"Rows that begin with `{PEER}`: {', '.join(result['packages'])}, one CPU thread.")
    return "\n".join(lines) + "\n"


def _in_both(runs, *labels):
    """Pairs of accuracies of two labels on the same net and seed."""
    found = [
        {(r["net"], r["seed"]): r["accuracy"] for r in runs if r["label"] == x} for x in labels
    ]
    return [[own[cell] for own in found] for cell in sorted(set(found[0]) & set(found[1]))]


def _rank(label, runs):
    """Rows by their mean accuracy, those of Torch-Pruning below the others."""
    found = [run["accuracy"] for run in runs if run["label"] == label]
    return label.startswith(PEER), -np.mean(found)


if __name__ == "__main__":
    app.run(main)
