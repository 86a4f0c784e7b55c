"""Thousands of bad settings: refused in words, or obeyed; no hang, NaN, or run for nothing.

Calls of all that is public are drawn in `test_drawn_calls.py`; here, what is accepted is obeyed.
"""

import functools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.channels.schedules import PaperSchedule, PlannedSchedule
from tests import zoo

# What users, and their configuration files, put where something else belongs.
ODD = [None, True, False, -1, 0, 1, 2, 7, 64, 10**9, -0.5, 0.0, 1e-12, 0.3, 0.5, 0.97, 1.0, 1.5]
ODD += [float("nan"), float("inf"), -float("inf"), "", "auto", "conv2d", "*", "nope", b"x"]
ODD += [(), [], ("*",), ["conv2d"], [1], {}, {"*": 2}, {"conv2d*": 0.5}, {"nope": 1}, {3: 4}]
ODD += [{"macs": 0.5}, {"params": 0.4}, {"macs": 0.2, "params": 0.7}, {"params": 0}, {"flops": 0.5}]
ODD += [
    {"params": 200},
    {"activation_bytes": 3000},
    {"macs": "half"},
    {"params": 1e12},
    object,
    len,
]
odd = strategies.sampled_from(ODD) | strategies.floats() | strategies.integers(-3, 40)

NAMES = (
    "target_reduction at_most min_channels min_share channel_multiple exclude coupled threads "
    "penalty_strength momentum schedule normalization compactor threshold total_steps input_shape "
    "exact score guard scope compactor_rate"
).split()
SCHEDULES = {
    PlannedSchedule: ("warmup", "selection_end", "forgetting", "selections"),
    PaperSchedule: ("warmup_epochs", "interval", "channels_per_selection"),
}


@functools.cache
def channel_state():
    """A small wrapped model that knows of all quantities but those that are timed or converted."""
    names = ("macs", "params", "activation_bytes")
    method = resrep_keras.ResRep(target_reduction=dict.fromkeys(names, 0.1))
    return ChannelState(resrep_keras.wrap(zoo.build("chain"), method))


@strategies.composite
def settings(draw):
    chosen = draw(strategies.lists(strategies.sampled_from(NAMES), max_size=4, unique=True))
    return {name: draw(odd) for name in chosen}


def in_words(error):
    text = str(error)
    return len(text) > 30 and ("xpected" in text or "cannot" in text or "target" in text)


def obey(method, seed):
    """What `wrap` and a selection do with a method, on a model that is wrapped already."""
    known = channel_state()
    quantities = {*method.reductions(), *method.at_most}
    if not quantities <= known.baseline.dense.keys() or method.channel_multiple == "auto":
        return
    method.groups(known.graph)
    method.check_target(known)
    scores = np.random.default_rng(seed).uniform(size=known.graph.num_channels)
    kept = method.choose(known, scores)
    assert not kept.all()
    assert all(limit.met(kept) for limit in method.limits(known))
    for group in known.graph.groups:
        assert kept[group.channels].any()
    step = method.plan(0, 100, 10)
    assert len(step.steps) <= 10_000


def thousands(test):
    quick = hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large
    return hypothesis.settings(
        max_examples=1_500, deadline=5_000, derandomize=True, suppress_health_check=quick
    )(test)


@thousands
@hypothesis.given(settings(), strategies.integers(0, 9))
def test_settings_are_refused_in_words_or_obeyed(drawn, seed):
    try:
        obey(resrep_keras.ResRep(**drawn), seed)
    except (ValueError, TypeError) as error:
        assert in_words(error), f"{drawn}: {error}"


@thousands
@hypothesis.given(
    strategies.sampled_from(list(SCHEDULES)),
    strategies.lists(odd, min_size=4, max_size=4),
    strategies.integers(0, 4),
    strategies.sampled_from([(0, 1), (0, 2), (0, 50), (7, 400), (0, 30_000)]),
)
def test_schedules_are_refused_in_words_or_lie_in_the_run(kind, values, given, run):
    first, last = run
    try:
        schedule = kind(**dict(zip(SCHEDULES[kind][:given], values)))
        plan = schedule.plan(first, last, steps_per_epoch=10)
    except (ValueError, TypeError) as error:
        assert in_words(error), str(error)
        return
    assert all(first <= step <= last for step in plan.steps)
    assert list(plan.steps) == sorted(set(plan.steps))
    if plan.forget_steps is not None:
        assert plan.steps and plan.steps[-1] + plan.forget_steps <= last
    assert plan.channels_per_selection is None or plan.channels_per_selection >= 1


EXTREME = [
    {"penalty_strength": 1e6},
    {"penalty_strength": 0.0, "momentum": 0.0},
    {"momentum": 0.9999},
    {"threshold": 0.0},
    {"min_share": 0.69, "target_reduction": 0.29},
    {"schedule": PlannedSchedule(0.0, 0.5, 0.5, 1)},
    {"channel_multiple": 2, "target_reduction": 0.6},
    {"normalization": "cost", "target_reduction": {"params": 0.6}},
]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("drawn", EXTREME, ids=str)
def test_extreme_settings_train_to_their_target_or_say_why_not(drawn):
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(**drawn))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    try:
        model.fit(x, np.arange(32) % 3, batch_size=8, epochs=5, verbose=0)
    except ValueError as error:
        assert "diverged" in str(error)
        return
    slim = resrep_keras.finalize(model, strict=True)
    assert all(np.isfinite(weight).all() for weight in slim.get_weights())
    assert slim.certificate.macs_left < 1
