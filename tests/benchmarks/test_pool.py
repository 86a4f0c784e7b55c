"""Runs side by side: which comes next, what is kept, and what a failure leaves."""

import json
import sys

import pytest

from tests import paths

pool = paths.benchmarks("pool")


def task(name, stage=0, program="p", after=None, split="table"):
    return {"name": name, "stage": stage, "program": program, "after": after, "split": split}


def plan_of(folder, *stages, **kwargs):
    made = [stage if callable(stage) else (lambda results, own=stage: own) for stage in stages]
    return pool.Plan(made, folder, **kwargs)


def names(plan, worker=0, result=lambda task: {"accuracy": 1.0}):
    """Does all that there is, one after the other; the names in their order."""
    found = []
    while (task := plan.take(worker)) is not None:
        found.append(task["name"])
        plan.done(worker, result(task))
    return found


def test_tasks_come_in_the_order_of_their_value_and_behind_what_they_need(tmp_path):
    tasks = [
        task("late", stage=2),
        task("runs", stage=1, after="dense"),
        task("dense", stage=1.5),
        task("first", stage=0),
    ]
    assert names(plan_of(tmp_path, tasks)) == ["first", "dense", "runs", "late"]


def test_a_stage_is_made_of_the_results_of_those_before(tmp_path):
    seen = []

    def second(results):
        seen.append(dict(results))
        return [task(f"of {name}") for name in results]

    assert names(plan_of(tmp_path, [task("a"), task("b")], second)) == ["a", "b", "of a", "of b"]
    assert list(seen[0]) == ["a", "b"] and seen[0]["a"] == {**task("a"), "accuracy": 1.0}


def test_what_is_kept_is_not_run_again(tmp_path):
    tasks = [task("a"), task("b"), task("a")]
    plan = plan_of(tmp_path, tasks)
    plan.take(0)
    plan.done(0, {"accuracy": 2.0})  # and then it is stopped
    assert json.loads((tmp_path / "a.json").read_text()) == {**task("a"), "accuracy": 2.0}
    again = plan_of(tmp_path, tasks)
    assert names(again) == ["b"]
    assert again.results["a"]["accuracy"] == 2.0 and set(again.results) == {"a", "b"}


def test_a_worker_stays_with_what_it_has_compiled_and_others_take_the_rest(tmp_path):
    plan = plan_of(tmp_path, [task(f"{p}{n}", program=p) for n, p in enumerate("xxxxxyy")])
    assert plan.take("one")["program"] == "x"  # 5 left for nobody, beside 2
    assert plan.take("two")["program"] in "xy"  # 4 for one, beside 2 for nobody
    rest = []
    for _ in range(5):
        plan.done("one", {})
        rest.append(plan.take("one")["program"])
    assert rest == sorted(rest) and rest[0] == "x"  # its own first


def test_results_are_collected_as_lines(tmp_path):
    collect = tmp_path / "all.jsonl"
    names(plan_of(tmp_path / "kept", [task("a"), task("b")], collect=collect))
    told = [json.loads(line) for line in collect.read_text().splitlines()]
    assert [each["name"] for each in told] == ["a", "b"]


def test_nothing_is_begun_when_time_is_over(tmp_path):
    assert names(plan_of(tmp_path, [task("a")], time_limit=-1)) == []
    plan = plan_of(tmp_path, [task("a", split="choice"), task("b")], [task("c", split="choice")])
    plan.limit("choice", -1)
    assert names(plan) == ["b"]


def test_a_failure_takes_what_needs_it_along_and_nothing_else(tmp_path, capsys):
    needing = [task("a", 1, after="dense_1"), task("b", 1, after="dense_2")]
    plan = plan_of(tmp_path, [task("dense_1"), task("dense_2"), *needing], [task("c", 2)])
    done = names(plan, result=lambda t: None if t["name"] == "dense_1" else {})
    assert done == ["dense_1", "dense_2", "b", "c"]
    assert set(plan.results) == {"dense_2", "b", "c"}
    assert capsys.readouterr().out == "failed: dense_1\nleft out: a\n"


WORKER = """
import json, sys
for line in sys.stdin:
    task = json.loads(line)
    if task["name"] == "dies":
        sys.exit(1)
    print(json.dumps({"half": task["stage"] / 2}), flush=True)
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_do_the_tasks_and_a_new_one_stands_in_for_one_that_has_died(tmp_path, jobs):
    tasks = [task(name, stage) for stage, name in enumerate(("a", "dies", "b", "c"))]
    plan = plan_of(tmp_path, tasks)
    pool.run_all(plan, jobs, [sys.executable, "-c", WORKER])
    assert {name: run["half"] for name, run in plan.results.items()} == {"a": 0, "b": 1, "c": 1.5}
