"""What `accuracy.py` runs: methods, settings of ResRep, and the order of their value."""

import numpy as np

import resrep_keras
from resrep_keras.methods.channels.schedules import PlannedSchedule

# Settings of ResRep that are compared: scores, and the rate of compactors.
RAW = {"score": "norm", "normalization": "none", "guard": 0.0, "compactor_rate": 1.0}
GENTLE = {**RAW, "compactor_rate": 0.1}
FISHER = {"score": "fisher", "normalization": "cost", "guard": 1.0}
VARIANTS = {
    "norm r1": RAW,
    "norm": GENTLE,
    "norm guard": {**GENTLE, "guard": 1.0},
    "fisher": {**GENTLE, "score": "fisher"},
    "fisher guard": {**GENTLE, "score": "fisher", "guard": 1.0},
    "fisher cost": {**GENTLE, **FISHER, "guard": 0.0},
    "fisher cost guard": {**GENTLE, **FISHER},
    "root guard": {**GENTLE, "score": "root_fisher", "guard": 1.0},
    "root cost": {**GENTLE, "score": "root_fisher", "normalization": "cost"},
    "root cost guard": {**GENTLE, **FISHER, "score": "root_fisher"},
    "both cost guard": {**GENTLE, **FISHER, "score": "norm_fisher"},
    **{
        f"fisher cost guard r{rate:g}": {**RAW, **FISHER, "compactor_rate": rate}
        for rate in (1.0, 0.3, 0.03, 0.0)
    },
}
BASE_SCHEDULE = {"warmup": 0.05, "selection_end": 0.25, "forgetting": 0.06, "selections": 20}
# Tried on top of the best of these.
CHANGES = {
    "select15": {"schedule": {"selection_end": 0.15}},
    "select40": {"schedule": {"selection_end": 0.4}},
    "pull0": {"penalty_strength": 0.0},
    "coupled": {"coupled": True},
    "blocks": {"scope": "blocks"},
    "guard2": {"guard": 2.0},
    "guard0.5": {"guard": 0.5},
    "forget2": {"schedule": {"forgetting": 0.02}},
    "forget15": {"schedule": {"forgetting": 0.15}},
    "warmup2": {"schedule": {"warmup": 0.02}},
    "warmup12": {"schedule": {"warmup": 0.12}},
    "once": {"schedule": {"warmup": 0.1, "selections": 1, "selection_end": 0.11}},
    "many": {"schedule": {"selections": 60}},
    "momentum0.99": {"momentum": 0.99},
    "momentum0.5": {"momentum": 0.5},
    "pull10": {"penalty_strength": 1e-3},
    "diagonal": {"compactor": "diagonal"},
    "late": {"schedule": {"warmup": 0.2, "selection_end": 0.5}},
}

# The methods of the table: the class and its settings.
METHODS = {
    "resrep": ("ResRep", {}),
    "resrep_coupled": ("ResRep", {"coupled": True}),
    "resrep_blocks": ("ResRep", {"scope": "blocks"}),
    "norm": ("ResRep", RAW),
    "l1": ("MagnitudePruning", {}),
    "taylor": ("TaylorPruning", {}),
    "fpgm": ("FPGM", {}),
    "random": ("RandomPruning", {}),
    "aofp": ("AOFP", {}),
    "slimming": ("NetworkSlimming", {}),
    "lasso": ("GroupLasso", {}),
    "lasso_growth": ("GroupLasso", {"growth": 4.0}),
}
# What decides how a wrapped model looks, and what its training step has in it.
COMPILED = ("coupled", "scope", "compactor", "strength", "growth")
ALIKE = ("MagnitudePruning", "FPGM", "RandomPruning")  # one training step serves these


def method_of(task):
    """The method of a task, `None` for a dense net."""
    if task["kind"] is None:
        return None
    settings = dict(task["settings"])
    if "schedule" in settings:
        settings["schedule"] = PlannedSchedule(**{**BASE_SCHEDULE, **settings["schedule"]})
    if task["kind"] in ("RandomPruning", "AOFP"):
        settings["seed"] = task["seed"]
    return getattr(resrep_keras, task["kind"])(task["cut"], **settings)


class Grid:
    """Makes tasks of one benchmark.

    Args:
        split: Whose images: `"choice"` or `"table"`.
        nets, seeds: Architectures and seeds.
        dense_epochs, epochs: Epochs of a dense net, and of what goes on from it.
    """

    def __init__(self, split, nets, seeds, dense_epochs, epochs):
        self.split = split
        self.nets, self.seeds = nets, seeds
        self.dense_epochs, self.epochs = dense_epochs, epochs

    def dense(self):
        """The dense nets, which all start from, and the same trained on."""
        nets = [
            self._task(-1, "dense", net, seed, epochs=self.dense_epochs, after=None)
            for seed in self.seeds
            for net in self.nets
        ]
        return nets + [
            self._task(-0.5, "longer", net, seed) for seed in self.seeds for net in self.nets
        ]

    def runs(self, stage, cuts, kinds, nets=None, seeds=None, epochs=None):
        """Runs of methods, one seed after the other: `{name: (class, settings)}`."""
        return [
            self._task(stage + place / 100, name, net, seed, cut, *kinds[name], epochs)
            for place, seed in enumerate(seeds or self.seeds)
            for cut in cuts
            for name in kinds
            for net in nets or self.nets
            if net in self.nets and not _senseless(kinds[name][1], net)
        ]

    def _task(
        self,
        stage,
        label,
        net,
        seed,
        cut=None,
        kind=None,
        settings=None,
        epochs=None,
        after="dense",
    ):
        epochs = epochs or self.epochs
        settings = settings or {}
        shared = "one_shot" if kind in ALIKE else str(kind)
        compiled = [f"{key}={settings[key]}" for key in COMPILED if key in settings]
        parts = [label, net, *([] if cut is None else [f"{cut:g}"]), str(seed)]
        return {
            "name": "_".join(
                parts if kind is None or epochs == self.epochs else [*parts, f"{epochs}epochs"]
            ),
            "stage": stage + (10 if self.split == "table" and stage < 0 else 0),
            "program": " ".join([net, f"{epochs}", shared, *compiled]),
            "after": None if after is None else f"{after}_{net}_{seed}",
            "split": self.split,
            "label": label,
            "net": net,
            "seed": seed,
            "cut": cut,
            "kind": kind,
            "settings": settings,
            "epochs": epochs,
        }


def _senseless(settings, net):
    """Nets without residual blocks have nothing coupled, and no blocks."""
    plain = net in ("vgg", "densenet")
    return plain and (settings.get("coupled") or settings.get("scope") == "blocks")


# --- the order of value --------------------------------------------------------------------------


def variant_stages(nets, seeds, dense_epochs, epochs, settings):
    """Settings of ResRep: all at 70 %, the best of them elsewhere; then what goes on top."""
    grid = Grid("choice", nets, seeds, dense_epochs, epochs)
    every = {name: ("ResRep", VARIANTS[name]) for name in settings}
    peers = {name: METHODS[name] for name in ("taylor", "l1")}

    def of_best(results, number):
        names = best(results, every, None)[:number] or ["root cost guard"]
        return {name: every[name] for name in names}

    def changed(results, names):
        top, (_, best_one) = next(iter(of_best(results, 1).items()))
        return {f"{top}+{'+'.join(each)}": ("ResRep", _merged(best_one, each)) for each in names}

    return [
        lambda results: grid.dense(),
        lambda results: grid.runs(1, [0.7], {**every, **peers}),
        lambda results: grid.runs(2, [0.85, 0.5], {**of_best(results, 3), **peers}),
        lambda results: grid.runs(3, [0.7], changed(results, [(name,) for name in CHANGES])),
        lambda results: grid.runs(
            4, [0.7], of_best(results, 3), nets=["resnet"], epochs=5 * epochs
        ),
    ]


def chosen(results):
    """The best settings that `variant_stages` has found: `(name, settings)`, or `None`."""
    choice = {name: run for name, run in results.items() if run["split"] == "choice"}
    names = best(choice, VARIANTS, None)
    return (names[0], VARIANTS[names[0]]) if names else None


def table_stages(nets, seeds, dense_epochs, epochs):
    """All methods: the main ones at three reductions, then the others."""
    grid = Grid("table", nets, seeds, dense_epochs, epochs)
    first, rest = seeds[:3], seeds[3:]
    main = {name: METHODS[name] for name in ("resrep", "taylor", "l1", "norm")}
    others = {name: method for name, method in METHODS.items() if name not in main}

    def methods(results, kinds):
        found = chosen(results)  # of the same run, where it has chosen
        if found is None:
            return kinds
        return {
            name: (kind, {**found[1], **settings} if name.startswith("resrep") else settings)
            for name, (kind, settings) in kinds.items()
        }

    return [
        lambda results: grid.dense(),
        lambda results: grid.runs(11, [0.7, 0.5, 0.85], methods(results, main), seeds=first),
        lambda results: grid.runs(12, [0.7], methods(results, others), seeds=first),
        lambda results: grid.runs(13, [0.5, 0.85], methods(results, others), seeds=first),
        lambda results: grid.runs(14, [0.3], methods(results, main), seeds=first),
        lambda results: (
            grid.runs(15, [0.7, 0.5, 0.85], methods(results, main), seeds=rest) if rest else []
        ),
        lambda results: grid.runs(16, [0.3], methods(results, others), seeds=first),
    ]


def best(results, names, cuts):
    """Names in the order of their mean accuracy above that of all in the same cell."""
    cells = {}
    for run in results.values():
        if run["label"] in names and (cuts is None or run["cut"] in cuts):
            cell = run["net"], run["cut"], run["seed"], run["epochs"]
            cells.setdefault(cell, {})[run["label"]] = run["accuracy"]
    above = {}
    for cell in cells.values():
        for name, value in cell.items():
            above.setdefault(name, []).append(value - np.mean(list(cell.values())))
    # A setting that has been seen in few cells proves little.
    most = max(map(len, above.values()), default=0)
    seen = [name for name in names if len(above.get(name, ())) > most / 2]
    return sorted(seen, key=lambda name: -np.mean(above[name]))


def _merged(settings, changes):
    """Settings with several of `CHANGES`."""
    merged = dict(settings)
    for change in changes:
        for key, value in CHANGES[change].items():
            both = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
            merged[key] = both
    return merged
