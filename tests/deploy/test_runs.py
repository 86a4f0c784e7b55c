"""Several runs side by side."""

import pytest

from resrep_keras.costs.comparison import Conditions
from resrep_keras.deploy.reported import Report, Row
from resrep_keras.deploy.runs import runs_of
from resrep_keras.workflow.search import SearchResult, Trial


def told(left, *quality):
    rows = [Row("MACs", "", 200, round(200 * left))]
    rows += [Row(name, "", dense, slim, is_quality=True) for name, dense, slim in quality]
    return Report(tuple(rows), {}, Conditions())


def test_reports_by_name():
    found = runs_of(
        {
            "L1": [told(0.5, ("loss", 1, 2), ("accuracy", 0.9, 0.85))],
            "ResRep": [
                told(0.5, ("loss", 1, 2), ("accuracy", 0.9, 0.88)),
                told(0.25, ("loss", 1, 3), ("accuracy", 0.9, 0.8)),
            ],
        }
    )
    assert found.header == ("run", "MACs left (%)", "accuracy")
    assert found.rows == (
        ("dense", "100.0", "0.9"),
        ("L1", "50.0", "0.85"),
        ("ResRep", "50.0", "0.88"),
        ("ResRep", "25.0", "0.8"),
    )
    drawn = {line.get_label(): line.get_xydata().tolist() for line in found.figure().axes[0].lines}
    assert drawn == {
        "dense": [[100, 0.9]],
        "L1": [[50, 0.85]],
        "ResRep": [[25, 0.8], [50, 0.88]],
    }


def test_a_loss_alone_is_quality_too():
    assert runs_of({"one": told(0.5, ("loss", 1, 2))}).header[-1] == "loss"


@pytest.mark.parametrize("reports", [{}, {"a": told(0.5)}, {"a": Report((), {}, Conditions())}])
def test_runs_without_a_metric_in_common_are_refused(reports):
    with pytest.raises(ValueError, match="whose reports have the MACs and a metric in common"):
        runs_of(reports)


def test_what_is_no_run_is_refused():
    with pytest.raises(TypeError, match=r"Expected runs to be what search.* returns, .*; got 3"):
        runs_of(3)
    with pytest.raises(TypeError, match="Expected a Report, or a list of them, as run 'a'; got 3"):
        runs_of({"a": 3})


def test_a_search_is_its_rounds():
    trials = Trial(0.5, 0.48, 0.91, True), Trial(0.9, None, None, False)
    result = SearchResult(None, 0.92, trials, 1.5)
    found = runs_of(result)
    assert found.rows == (
        ("round 1", "50", "48", "0.91", "accepted"),
        ("round 2", "90", "out of reach", "out of reach", "refused"),
    )
    assert found.words == tuple(str(result).splitlines())
    assert found.figure().axes[0].get_xlabel() == "MACs left (%)"
