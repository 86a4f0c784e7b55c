"""What `accuracy.py` runs: methods, settings of ResRep, and the order of their value."""

import numpy as np

import resrep_keras
from resrep_keras.methods.channels.schedules import PlannedSchedule

# Settings of ResRep that are compared, as changes of its defaults.
SCORES = {
    "norm": {"score": "norm"},
    "norm_cost": {"score": "norm", "normalization": "cost"},
    "norm_guard": {"score": "norm", "guard": 1.0},
    "norm_cost_guard": {"score": "norm", "normalization": "cost", "guard": 1.0},
    "fisher": {"score": "fisher"},
    "fisher_cost": {"score": "fisher", "normalization": "cost"},
    "fisher_cost_guard": {"score": "fisher", "normalization": "cost", "guard": 1.0},
    "root_cost": {"score": "root_fisher", "normalization": "cost"},
    "root_guard": {"score": "root_fisher", "guard": 1.0},
    "root_cost_guard": {"score": "root_fisher", "normalization": "cost", "guard": 1.0},
    "root_layer": {"score": "root_fisher", "normalization": "layer"},
    "both_cost": {"score": "norm_fisher", "normalization": "cost"},
    "both_cost_guard": {"score": "norm_fisher", "normalization": "cost", "guard": 1.0},
}
SCORES = {
    name: {"score": "norm", "normalization": "none", "guard": 0.0, **settings}
    for name, settings in SCORES.items()
}
BASE_SCHEDULE = {"warmup": 0.05, "selection_end": 0.25, "forgetting": 0.06, "selections": 20}
# Tried on top of the best of these.
CHANGES = {
    "select15": {"schedule": {"selection_end": 0.15}},
    "select40": {"schedule": {"selection_end": 0.4}},
    "clip1": {"clip_ratio": 0.01},
    "clip5": {"clip_ratio": 0.05},
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
COMBINED = 2  # so many of the best changes are tried together, too

# The methods of the table: the class and its settings.
METHODS = {
    "resrep": ("ResRep", {}),
    "resrep_coupled": ("ResRep", {"coupled": True}),
    "resrep_blocks": ("ResRep", {"scope": "blocks"}),
    "resrep_norm": ("ResRep", SCORES["norm"]),
    "l1": ("MagnitudePruning", {}),
    "taylor": ("TaylorPruning", {}),
    "fpgm": ("FPGM", {}),
    "random": ("RandomPruning", {}),
    "aofp": ("AOFP", {}),
    "slimming": ("NetworkSlimming", {"strength": 1e-3}),
    "lasso": ("GroupLasso", {"strength": 3e-4}),
}
# What decides how a wrapped model looks, and what its training step has in it.
COMPILED = (
    "coupled",
    "scope",
    "compactor",
    "momentum",
    "clip_ratio",
    "penalty_strength",
    "strength",
)
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
        nets, seeds: Architectures and seeds.
        dense_epochs, epochs: Epochs of a dense net, and of what goes on from it.
    """

    def __init__(self, nets, seeds, dense_epochs, epochs):
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
            "stage": stage,
            "program": " ".join([net, f"{epochs}", shared, *compiled]),
            "after": None if after is None else f"{after}_{net}_{seed}",
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


def variant_stages(nets, seeds, dense_epochs, epochs):
    """Settings of ResRep: the score first, at 70 %; then the best of them, and what goes on top."""
    grid = Grid(nets, seeds, dense_epochs, epochs)
    every = {name: ("ResRep", settings) for name, settings in SCORES.items()}
    peers = {name: METHODS[name] for name in ("taylor", "l1")}

    def named(names):
        return {name: every[name] for name in names}

    def of_best(results, number):
        names = best(results, every, [0.7])[:number]
        return {name: every[name] for name in names} or named(["root_cost_guard"])

    def changed(results, names):
        top, (_, settings) = next(iter(of_best(results, 1).items()))
        return {f"{top}+{'+'.join(each)}": ("ResRep", _merged(settings, each)) for each in names}

    def combined(results):
        top = next(iter(of_best(results, 1)))
        tried = {f"{top}+{change}": change for change in CHANGES}
        order = [
            tried[name] for name in best(results, {top: None, **tried}, [0.7]) if name in tried
        ]
        return changed(results, [(order[0],), tuple(order[:COMBINED])] if order else [])

    return [
        lambda results: grid.dense(),
        lambda results: grid.runs(1, [0.7], {**every, **peers}),
        lambda results: grid.runs(2, [0.85, 0.5], {**of_best(results, 4), **named(["norm"])}),
        lambda results: grid.runs(3, [0.7], changed(results, [(name,) for name in CHANGES])),
        lambda results: grid.runs(4, [0.7, 0.85, 0.5], combined(results)),
        lambda results: grid.runs(5, [0.85, 0.5], peers),
        lambda results: grid.runs(
            6,
            [0.7],
            {**of_best(results, 2), **combined(results), **named(["norm"])},
            nets=["resnet"],
            epochs=5 * epochs,
        ),
    ]


def table_stages(nets, seeds, dense_epochs, epochs):
    """All methods: the first net at 70 %, then the others, then other reductions."""
    grid = Grid(nets, seeds, dense_epochs, epochs)
    first, rest = seeds[:3], seeds[3:]
    main = {name: METHODS[name] for name in ("resrep", "taylor", "l1", "random", "resrep_norm")}
    others = {name: method for name, method in METHODS.items() if name not in main}
    return [
        lambda results: grid.dense(),
        lambda results: grid.runs(1, [0.7, 0.5, 0.85], main, seeds=first),
        lambda results: grid.runs(2, [0.7], others, seeds=first),
        lambda results: grid.runs(3, [0.5, 0.85], others, seeds=first),
        lambda results: grid.runs(4, [0.3], main, seeds=first),
        lambda results: grid.runs(5, [0.7, 0.5, 0.85], main, seeds=rest) if rest else [],
        lambda results: grid.runs(6, [0.3], others, seeds=first),
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
