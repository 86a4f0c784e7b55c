"""20,000 calls of what is public: none ends in a foreign error, without end, or heeds nothing."""

import inspect

import pytest

import resrep_keras as rk
from resrep_keras.deploy.reported import Report
from resrep_keras.explanation.explain import Explanation
from resrep_keras.methods.channels.schedules import PaperSchedule, PlannedSchedule
from resrep_keras.methods.method import Method
from tests.conditions.drawn_arguments import ODD
from tests.conditions.drawn_calls import Endless, Outcome, Target, ends, outcome_of, run, table
from tests.conditions.drawn_targets import BOOL, targets

# What Keras calls, with arguments of its own.
KERAS = """
build call compute_output_shape get_config apply stateless_apply scale_loss on_train_begin set_model
on_train_end on_epoch_begin on_epoch_end on_train_batch_end make_state update_variables own_config
exclude_from_weight_decay finalize_variable_values compute_mask
""".split()
# What stands on values that another call has made and checked.
INSIDE = """
masked_kernel column_norms keep kept share_state masks apply_masks report target_met macs_left plot
kept_labels producer_before removable with_one_each conditions_in_words
""".split()


def public_names():
    """The functions and classes of the face, and the public methods of the classes."""
    for name, value in vars(rk).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        yield name
        if inspect.isclass(value):
            yield from (f"{name}.{method}" for method in methods_of(value))
    for kind in (Explanation, Report, PlannedSchedule, PaperSchedule):
        yield from (f"{kind.__name__}.{method}" for method in methods_of(kind))


def methods_of(kind):
    """What users call: of a method its constructors and `prune`, all else `wrap` and `fit` ask."""
    found = _public_methods(kind)
    if not issubclass(kind, Method):
        return found
    return {name for name in found if name == "prune" or inspect.ismethod(getattr(kind, name))}


def _public_methods(kind):
    own = [base for base in kind.__mro__ if base.__module__.startswith("resrep_keras")]
    return {
        name
        for base in own
        for name, value in vars(base).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod)))
    }


def test_all_that_is_public_is_called():
    called = {target.name for target in targets()}
    called |= {f"{kind}.{name}" for kind in vars(rk) for name in ("from_config", "prune", "paper")}
    called |= {"PaperSchedule.from_config", "ChannelGraph"}  # ChannelGraph is what `trace` returns
    missing = {
        name
        for name in public_names()
        if name not in called and name.split(".")[-1] not in {*KERAS, *INSIDE}
    }
    assert not missing


@pytest.mark.tensorflow_only
def test_calls_are_refused_in_words_or_obeyed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcomes = list(run(targets(), 20_000))
    print(f"\n{table(outcomes)}")
    bad = [outcome for outcome in outcomes if outcome.word not in ("accepted", "refused")]
    assert not bad, "\n".join(map(str, bad[:20]))
    assert len(outcomes) >= 20_000
    accepted = sum(outcome.word == "accepted" for outcome in outcomes)
    assert 400 < accepted < 10_000, "wrong values are drawn, and right ones"
    assert {o.target.name for o in outcomes if o.word == "refused"} == {t.name for t in targets()}


# --- what judges them can fail --------------------------------------------------------------------


def judged(call, value):
    return outcome_of(
        Target("call", call, {"coupled": BOOL}), {"coupled": value}, {"coupled": value}
    )


def test_a_text_that_is_taken_for_a_bool_is_found():
    assert judged(lambda coupled: bool(coupled), "False").word == "ignored"
    assert judged(lambda coupled: rk.ResRep(coupled=coupled), "False").word == "refused"
    assert judged(lambda coupled: rk.ResRep(coupled=coupled), True).word == "accepted"


def test_a_foreign_error_is_found():
    assert judged(lambda coupled: coupled.nothing, 3).word == "foreign"
    assert judged(lambda coupled: [].index(coupled), 3).word == "foreign"


def test_an_error_that_names_no_argument_is_found():
    assert judged(lambda coupled: rk.ResRep(coupled), "False").word == "no words"


def test_what_is_kept_as_something_else_is_found():
    target = Target("call", lambda coupled: None, {"coupled": BOOL}, lambda _: {"coupled": False})
    assert outcome_of(target, {"coupled": True}, {"coupled": True}).word == "ignored"


def test_a_call_without_end_is_found():
    with pytest.raises(Endless), ends(0.05):
        while True:
            pass


def test_figures_are_counted_by_kind():
    target = Target("call", len, {}, kind="layer")
    rows = [Outcome(target, {}, word) for word in ("accepted", "refused", "refused")]
    assert table(rows).splitlines()[1].split() == ["layer", "3", "1", "2", "0", "0", "0", "0"]


def test_odd_values_are_made_anew_where_a_call_may_change_them():
    lists = [make for make in ODD if make is list]
    assert lists and lists[0]() is not lists[0]()
