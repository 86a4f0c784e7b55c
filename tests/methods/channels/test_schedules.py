import pytest

from resrep_keras.methods.channels.schedules import PaperSchedule, Plan, PlannedSchedule


@pytest.mark.parametrize("length", [2, 3, 5, 10, 20, 100, 1000, 90_000])
@pytest.mark.parametrize("first", [0, 37])
def test_planned_leaves_time_to_forget(length, first):
    plan = PlannedSchedule().plan(first, first + length, 10)
    assert plan.steps == tuple(sorted(set(plan.steps)))
    assert first < plan.steps[0] and plan.steps[-1] + plan.forget_steps <= first + length
    assert plan.forget_steps >= 1


def test_planned_shares():
    plan = PlannedSchedule(warmup=0.1, selection_end=0.5, forgetting=0.2, selections=5).plan(
        0, 1000, 100
    )
    assert plan.steps == (100, 200, 300, 400, 500)
    assert plan.forget_steps == 200


def test_allowance_grows_evenly_and_ends_with_all_that_is_needed():
    plan = Plan((10, 20, 30, 40), 5)
    assert [plan.allowance(step, 10) for step in plan.steps] == [3, 5, 8, 10]


def test_paper():
    plan = PaperSchedule().plan(0, 2000, 100)
    # Five epochs of 100 steps, then every 200 steps four more channels.
    assert plan.steps == (700, 900, 1100, 1300, 1500, 1700, 1900)
    assert plan.forget_steps is None
    assert [plan.allowance(step, 99) for step in plan.steps[:3]] == [4, 8, 12]


@pytest.mark.parametrize("schedule", [PlannedSchedule(0.1, 0.2), PaperSchedule(interval=7)])
def test_config_round_trip(schedule):
    assert type(schedule).from_config(schedule.get_config()) == schedule


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"warmup": 0.3, "selection_end": 0.2},
            "selection_end to be a number above 0.3 and below 1; got 0.2",
        ),
        ({"selection_end": 0.99}, "selection_end . forgetting <= 1"),
        ({"forgetting": 0.0}, "forgetting to be a number above 0 and below 1; got 0.0"),
        ({"selections": 0}, "selections to be an int of 1 or more and below 10000; got 0"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ValueError, match=text):
        PlannedSchedule(**settings)


def test_a_run_of_one_step_is_too_short():
    with pytest.raises(
        ValueError, match=r"at least 2 steps to select and forget channels in, .*; got 1"
    ):
        PlannedSchedule().plan(0, 1, 1)
