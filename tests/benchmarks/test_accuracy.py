"""Accuracy at equal cost: what is run, what of it is chosen, and what the table says."""

import json
import os
from unittest import mock

import keras
import numpy as np
import pytest
from absl import flags
from keras import layers

import resrep_keras
from tests import paths


def imported(*names):
    """Modules of the folder; flags that they define are those of other programs elsewhere."""
    others = [
        name
        for name in flags.FLAGS
        if "absl" not in flags.FLAGS.find_module_defining_flag(name, "")
    ]
    before = {name: flags.FLAGS[name] for name in others}
    for name in before:
        delattr(flags.FLAGS, name)
    known = set(flags.FLAGS)
    with mock.patch.dict(os.environ):  # a backend and a cache of their own
        modules = [paths.benchmarks(name) for name in names]
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    for name, flag in before.items():
        flags.FLAGS[name] = flag
    return modules


accuracy, grids, tables, programs = imported(
    "accuracy", "accuracy_grids", "accuracy_tables", "programs"
)

NETS = list(programs.NETS)


def run(label, value, net="resnet", cut=0.7, seed=0, epochs=8, **more):
    return {
        **{"label": label, "accuracy": value, "net": net, "cut": cut, "seed": seed},
        **{"epochs": epochs, "split": "table", "name": f"{label}_{net}_{cut}_{seed}"},
        **{"target_met": True, **more},
    }


def by_name(runs):
    return {each["name"]: each for each in runs}


# --- what is run ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stages",
    [
        grids.table_stages(NETS, list(range(5)), 8, 8),
        grids.variant_stages(NETS, [10, 11, 12], 8, 8, list(grids.VARIANTS)),
    ],
    ids=["table", "variants"],
)
def test_each_task_has_a_name_of_its_own_a_method_and_what_it_needs(stages):
    known, tasks = set(), [task for stage in stages for task in stage({})]
    assert len(tasks) == len({task["name"] for task in tasks}) > 100
    for task in tasks:
        assert task["after"] is None or task["after"] in known
        known.add(task["name"])
        assert json.loads(json.dumps(task)) == task  # which goes to a worker as a line
    kinds = {json.dumps([task["kind"], task["settings"]]): task for task in tasks}
    for task in kinds.values():
        method = grids.method_of(task)
        assert (method is None) == task["name"].startswith(("dense_", "longer_"))
        if method is not None:
            assert isinstance(method, getattr(resrep_keras, task["kind"]))
            assert method.target_reduction == task["cut"]


def test_dense_nets_come_first_and_nets_without_blocks_have_nothing_coupled():
    tasks = [task for stage in grids.table_stages(NETS, [0], 8, 8) for task in stage({})]
    ordered = sorted(tasks, key=lambda task: task["stage"])
    assert [task["label"] for task in ordered[: 2 * len(NETS)]] == (
        ["dense"] * len(NETS) + ["longer"] * len(NETS)
    )
    coupled = {task["net"] for task in tasks if task["settings"].get("coupled")}
    assert coupled == set(NETS) - {"vgg", "densenet"}


def test_methods_of_equal_steps_share_a_program_and_others_do_not():
    grid = grids.Grid("table", ["vgg"], [0], 8, 8)
    tasks = grid.runs(1, [0.5, 0.7], grids.METHODS)
    programs_of = {task["label"]: task["program"] for task in tasks}
    assert programs_of["l1"] == programs_of["fpgm"] == programs_of["random"]
    assert programs_of["lasso"] != programs_of["lasso_growth"]
    assert programs_of["resrep"] == programs_of["norm"] != programs_of["l1"]
    longer = grid.runs(1, [0.5], {"l1": grids.METHODS["l1"]}, epochs=40)
    assert longer[0]["program"] != programs_of["l1"]
    assert longer[0]["name"] == "l1_vgg_0.5_0_40epochs"


def test_settings_are_merged_schedules_entry_by_entry():
    found = grids._merged({"score": "norm", "schedule": {"warmup": 0.1}}, ("select15", "pull0"))
    assert found == {
        "score": "norm",
        "schedule": {"warmup": 0.1, "selection_end": 0.15},
        "penalty_strength": 0.0,
    }
    task = {"kind": "ResRep", "settings": {"schedule": {"warmup": 0.02}}, "cut": 0.5, "seed": 0}
    schedule = grids.method_of(task).schedule
    assert (schedule.warmup, schedule.selection_end) == (0.02, grids.BASE_SCHEDULE["selection_end"])


# --- what is chosen -------------------------------------------------------------------------------


def test_the_best_is_that_above_the_others_of_its_cells():
    runs = [run("a", 90.0), run("b", 91.0), run("a", 80.0, cut=0.5), run("b", 70.0, cut=0.5)]
    assert grids.best(by_name(runs), ["a", "b"], None) == ["a", "b"]  # +4.5 beside -4.5
    assert grids.best(by_name(runs), ["a", "b"], [0.7]) == ["b", "a"]
    assert grids.best(by_name(runs), ["b"], None) == ["b"]
    assert grids.best({}, ["a"], None) == []


def test_what_few_cells_have_is_not_chosen():
    runs = [run("a", 80.0 + seed, seed=seed) for seed in range(4)] + [run("b", 99.0)]
    assert grids.best(by_name(runs), ["a", "b"], None) == ["a"]
    runs += [run("b", 99.0, seed=seed) for seed in (1, 2)]
    assert grids.best(by_name(runs), ["a", "b"], None) == ["b", "a"]


def test_the_choice_goes_by_its_own_images_and_changes_resrep_alone():
    names = list(grids.VARIANTS)[:2]
    runs = [run(names[0], 80.0, split="choice"), run(names[1], 81.0, split="choice")]
    runs.append(run(names[0], 99.0, seed=1))  # of the table
    results = by_name(runs)
    assert grids.chosen(results) == (names[1], grids.VARIANTS[names[1]])
    assert grids.chosen({}) is None
    tasks = grids.table_stages(["vgg"], [0, 1, 2], 8, 8)[1](results)
    settings = {task["label"]: task["settings"] for task in tasks}
    assert settings["resrep"] == grids.VARIANTS[names[1]]
    assert settings["norm"] == grids.RAW and settings["l1"] == {}


# --- what the table says --------------------------------------------------------------------------

RESULT = {
    **{"command": "accuracy.py", "machine": "one core", "images": 12_000, "epochs": [4, 8]},
    "runs": [
        run("longer", 92.0, cut=None),
        run("longer", 94.0, cut=None, seed=1),
        run("good", 90.0),
        run("good", 92.0, seed=1),
        run("bad", 80.0, target_met=False),
        run("bad", 80.0, seed=1),
        run("good", 85.0, epochs=40),
        run("tp_l1", 70.0),
        run("good", 10.0, split="choice"),
    ],
}


def test_a_table_has_means_and_spreads_of_each_cell_and_its_best_is_bold():
    page = tables.as_markdown(RESULT, "table")
    lines = [[cell.strip() for cell in line.split("|")] for line in page.splitlines()]
    rows = {cells[1]: cells[2:-1] for cells in lines if len(cells) > 2}
    assert rows[""] == ["resnet, -70 %, 40 epochs", "resnet, -70 %"]
    assert rows["`good`"] == ["**85.00** ± 0.00 (1)", "**91.00** ± 1.41 (2)"]  # sqrt(2)
    assert rows["`bad`"] == ["", "80.00 ± 0.00 (2)"]
    assert rows["`tp_l1`"] == ["", "70.00 ± 0.00 (1)"]
    assert rows["dense, trained on"] == ["93.00 ± 1.41 (2)"] * 2
    assert "seeds 0, 1; 4 dense epochs, then 8 more" in page and "8 runs" in page
    assert "Targets that were not met: bad_resnet_0.7_0." in page


def test_kept_runs_are_those_of_a_split(tmp_path):
    for number, each in enumerate(RESULT["runs"]):
        (tmp_path / f"{number}.json").write_text(json.dumps(each))
    assert [each["accuracy"] for each in tables.kept_runs(tmp_path, "choice")] == [10.0]
    assert len(tables.kept_runs(tmp_path, "table")) == 8


# --- runs -----------------------------------------------------------------------------------------


def test_weights_come_back_from_a_file_in_their_order(tmp_path):
    weights = [[np.full(2, 10 * i + k) for k in range(1 + i % 2)] for i in range(12)]
    np.savez(tmp_path / "kept.npz", **accuracy._flat(weights))
    with np.load(tmp_path / "kept.npz") as file:
        found = accuracy._nested(file)
    listed = [[[a.tolist() for a in own] for own in each] for each in (found, weights)]
    assert listed[0] == listed[1]


def test_a_program_begins_each_run_at_the_same_start(monkeypatch):
    def tiny(shape, classes):
        inputs = keras.Input(shape)
        x = layers.Conv2D(6, 3, activation="relu", name="conv")(inputs)
        return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))

    monkeypatch.setitem(programs.NETS, "tiny", lambda *_: tiny((6, 6, 1), 3))
    monkeypatch.setattr(programs, "BATCH", 8)
    generator = np.random.default_rng(0)
    images = generator.normal(size=(32, 6, 6, 1)).astype("float32")
    data = ((images, np.arange(32) % 3),) * 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    monkeypatch.setattr(
        programs.trials,
        "compile_for",
        lambda model, steps: model.compile(keras.optimizers.SGD(0.05), loss, jit_compile=False),
    )
    program = programs.Program("tiny", resrep_keras.ResRep(0.3), 4 * 4, data)
    dense = programs.make("tiny")
    weights = [layer.get_weights() for layer in dense.layers if layer.weights]
    assert set(program._settings) == set(programs.UPDATE)
    told = []
    for seed, strength in ((0, 1e-4), (1, 1e-4), (0, 1e-4), (0, 0.5)):
        program.begin(weights, seed)
        method = resrep_keras.ResRep(0.3, penalty_strength=strength)
        result = program.fit(method, data, 4, seed)
        assert result["target_met"] and 0 < result["macs_left"] <= 0.7
        assert sum(result["removed"].values()) > 0
        told.append(program.weights())
    kernels = [run_weights[0][0] for run_weights in told]
    same = [np.array_equal(kernels[0], kernel) for kernel in kernels]
    assert same == [True, False, True, False]
