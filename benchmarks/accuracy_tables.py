"""The pages that `accuracy.py` writes."""

import json
import pathlib

import numpy as np
from accuracy_grids import best
from common import RESULTS
from trials import spread

from resrep_keras.common.files import write_text
from resrep_keras.common.tables import markdown_table

PEER = "tp_"  # how the rows of `torch_pruning.py` begin; few cells are enough for them


def cells_of(runs):
    """`{(net, cut, epochs): {label: {seed: run}}}`."""
    found = {}
    for run in runs:
        cell = found.setdefault((run["net"], run["cut"], run["epochs"]), {})
        cell.setdefault(run["label"], {})[run["seed"]] = run
    return found


def kept_runs(folder, split):
    """The runs of a split that `accuracy.py` or `torch_pruning.py` has kept in a folder."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(pathlib.Path(folder).glob("*.json"))
    ]
    return [run for run in found if run["split"] == split]


def as_markdown(result, split, labels=None):
    """The page of a split; rows are those `labels`, by default those that enough cells have."""
    runs = [run for run in result["runs"] if run["split"] == split]
    pruned = [run for run in runs if run["cut"] is not None]
    cells = cells_of(pruned)
    columns = sorted(cells, key=str)
    if labels is None:
        names = {run["label"]: 0 for run in pruned}
        labels = best({run["name"]: run for run in pruned}, names, None)
        labels += sorted(name for name in names if name.startswith(PEER) and name not in labels)
    seeds = ", ".join(map(str, sorted({run["seed"] for run in runs})))
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {result['images']:,} images of "
        f"Fashion-MNIST, seeds {seeds}; {result['epochs'][0]} dense epochs, "
        f"then {result['epochs'][1]} more; mean and sample standard deviation of test accuracy "
        f"(%), number of seeds in brackets; {len(runs)} runs. The best of each column is bold.",
        "",
    ]
    header = ("", *(title(column, result) for column in columns))
    table = []
    longer = {(run["net"], run["seed"]): run for run in runs if run["label"] == "longer"}
    if longer:
        row = []
        for net, _, _ in columns:
            row.append(shown([r["accuracy"] for (n, _), r in longer.items() if n == net], False))
        table.append(("dense, trained on", *row))
    tops = {
        column: max(np.mean(values_of(own)) for own in cells[column].values()) for column in columns
    }
    for label in labels:
        row = []
        for column in columns:
            values = values_of(cells[column].get(label, {}))
            row.append(shown(values, bool(values) and np.mean(values) == tops[column]))
        table.append((f"`{label}`", *row))
    lines += markdown_table(header, table)
    unmet = [run["name"] for run in pruned if not run["target_met"]]
    lines += ["", f"Targets that were not met: {', '.join(unmet) or 'none'}."]
    return "\n".join(lines) + "\n"


def title(column, result):
    net, cut, epochs = column
    usual = epochs == result["epochs"][1]
    return f"{net}, -{100 * cut:.0f} %" + ("" if usual else f", {epochs} epochs")


def values_of(by_seed):
    return [run["accuracy"] for run in by_seed.values()]


def shown(values, top):
    if not values:
        return ""
    mean = f"{np.mean(values):.2f}"
    return f"{f'**{mean}**' if top else mean} ± {spread(values):.2f} ({len(values)})"


def publish(result, split, write):
    page = as_markdown(result, split)
    stem = {"choice": "accuracy_variants", "table": "accuracy"}[split]
    print(page)
    if write:
        write_text((RESULTS / stem).with_suffix(".json"), json.dumps(result, indent=1) + "\n")
        write_text((RESULTS / stem).with_suffix(".md"), page)
