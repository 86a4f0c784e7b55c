"""The side of `torch_pruning.py` that runs in an environment with PyTorch and Torch-Pruning.

    python worker.py <work folder>

Reads tasks, a line each, and answers each with a line of JSON.
"""

import copy
import json
import os
import pathlib
import sys
import time

import nets
import numpy as np
import ratios
import torch
import torch_pruning as tp
import training

TOLERANCE = 1e-4  # between outputs of the Keras net and of this one


class Runs:
    """What is done with a task; the data that it has read, it keeps."""

    def __init__(self, folder):
        self._folder, self._data = pathlib.Path(folder), {}

    def __call__(self, task):
        begin = time.perf_counter()
        train, test = self._images(task["split"])
        net = self._net(task)
        order = self._read(f"order_{task['seed']}_{task['epochs']}.npz")["order"]
        run = training.Run(train, torch.from_numpy(order))
        if task["cut"] is None:
            run.epochs(net, 0, task["epochs"])
            found = {}
        else:
            net, found = prune(net, task, run, train)
        result = {"accuracy": training.accuracy(net, test), **found}
        return {**result, "seconds": round(time.perf_counter() - begin, 2)}

    def _images(self, split):
        if split not in self._data:
            file = self._read(f"data_{split}.npz")
            read = [(file[f"{part}_x"], file[f"{part}_y"]) for part in ("train", "test")]
            self._data[split] = [
                (torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(y).long())
                for x, y in read
            ]
        return self._data[split]

    def _net(self, task):
        """The dense net of Keras; its outputs and its cost are compared first."""
        start = self._read(f"start_{task['net']}_{task['seed']}.npz")
        net = nets.NETS[task["net"]]()
        nets.carry_over(net, start)
        x = torch.from_numpy(start["inputs"]).permute(0, 3, 1, 2)
        net.eval()
        with torch.no_grad():
            difference = float(np.abs(net(x).numpy() - start["outputs"]).max())
        if not difference <= TOLERANCE:
            raise ValueError(f"{task['net']}: outputs differ from those of Keras by {difference}.")
        own, theirs = training.macs(net, x), int(start["macs"])
        if own != theirs:
            raise ValueError(f"{task['net']}: {own} multiply-adds here, {theirs} in Keras.")
        return net

    def _read(self, name):
        with np.load(self._folder / name) as file:
            return dict(file)


# --- methods -------------------------------------------------------------------------------------


def magnitude(net, example, settings, **shared):
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return tp.pruner.BasePruner(net, example, importance, **shared)


def taylor(net, example, settings, **shared):
    return tp.pruner.BasePruner(net, example, tp.importance.GroupTaylorImportance(), **shared)


def bn_scale(net, example, settings, **shared):
    importance = tp.importance.BNScaleImportance()
    reg = settings.get("strength", 0.0)
    return tp.pruner.BNScalePruner(net, example, importance, reg=reg, **shared)


def group_norm(net, example, settings, **shared):
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return tp.pruner.GroupNormPruner(net, example, importance, reg=settings["strength"], **shared)


KINDS = {"magnitude": magnitude, "taylor": taylor, "bn_scale": bn_scale, "group_norm": group_norm}


def pruner_of(task, net, example, ratio):
    head = [m for m in net.modules() if isinstance(m, torch.nn.Linear)][-1:]
    return KINDS[task["kind"]](
        net,
        example,
        task["settings"],
        global_pruning=True,
        pruning_ratio=ratio,
        iterative_steps=task["settings"]["steps"],
        ignored_layers=head,
    )


def prune(net, task, run, train):
    """Train sparsely where the method does, prune, train on; the net, and what is known of it."""
    example, epochs = train[0][:1], task["epochs"]
    sparse = epochs // 2 if "strength" in task["settings"] else 0
    if sparse:
        run.epochs(net, 0, sparse, pruner_of(task, net, example, 0.0).regularize)
    if task["kind"] == "taylor":
        training.gradients(net, train)
    before = {name: m.weight.shape[0] for name, m in nets.layers_of(net).items()}
    full = training.macs(net, example)

    def narrowed(ratio):
        narrow = copied(net)
        pruner = pruner_of(task, narrow, example, ratio)
        for _ in range(task["settings"]["steps"]):
            pruner.step()
        return narrow

    target = 1 - task["cut"]
    ratio, left = ratios.ratio_for(lambda r: training.macs(narrowed(r), example) / full, target)
    net = narrowed(ratio)
    found = {
        "ratio": round(ratio, 4),
        "macs_left": round(left, 4),
        "target_met": left <= target + 0.005,
        "accuracy_pruned": training.accuracy(net, train),
        "removed": {
            name: before[name] - m.weight.shape[0]
            for name, m in nets.layers_of(net).items()
            if not name.startswith("norm") and before[name] > m.weight.shape[0]
        },
    }
    run.epochs(net, sparse, epochs)
    return net, found


def copied(net):
    """A copy with the gradients, which `copy.deepcopy` leaves behind."""
    copy_of = copy.deepcopy(net)
    for own, other in zip(net.parameters(), copy_of.parameters()):
        other.grad = None if own.grad is None else own.grad.clone()
    return copy_of


def main():
    torch.set_num_threads(1)
    runs, answers = Runs(sys.argv[1]), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anybody prints goes to the log
    for line in sys.stdin:
        answers.write(json.dumps(runs(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
