"""search: as far as the metric allows, on top of what has been trained."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import MagnitudePruning, ResRep, search
from tests import zoo


def falling(limit):
    """A metric that is 0.9 while at least a share of the dense MACs is left, and 0.8 below."""
    dense = resrep_keras.count_macs(zoo.build("chain"))
    return lambda model: 0.9 if resrep_keras.count_macs(model) / dense >= limit else 0.8


def one_shot(model):
    """Masks at once what `MagnitudePruning` chooses, without training."""
    from resrep_keras.methods.channels.channel_state import ChannelState

    model.method.update(ChannelState(model), None, None, 0)


def test_goes_as_far_as_the_metric_allows():
    method = MagnitudePruning()
    found = search(
        zoo.build("chain"), one_shot, falling(0.4), 0.5, method, rounds=6, first_reduction=0.3
    )
    left = found.model.certificate.macs_slim / resrep_keras.count_macs(zoo.build("chain"))
    assert 0.4 <= left < 0.6
    assert found.dense_metric == 0.9
    verdicts = [trial.accepted for trial in found.trials]
    assert verdicts[0] and not all(verdicts) and len(verdicts) == 6
    for trial in found.trials:
        assert trial.accepted == (trial.macs_left >= 0.4)


def test_what_was_found_reads_as_sentences_and_draws_itself():
    method = MagnitudePruning(min_share=0.3)
    found = search(zoo.build("chain"), one_shot, falling(0.4), 0.5, method, 3, first_reduction=0.3)
    first, *rounds, last = str(found).splitlines()
    assert first == "The dense model's metric is 0.9000; 0.5 points less are allowed."
    assert rounds[0].startswith("Round 1, 30.0 % of the MACs to remove: ")
    assert rounds[0].endswith(" % are left, metric 0.9000, accepted.") and len(rounds) == 3
    left = found.model.certificate.macs_slim / resrep_keras.count_macs(zoo.build("chain"))
    assert last == f"The slim model has {100 * left:.1f} % of the MACs, metric 0.9000."
    assert found.plot().axes
    nothing = search(zoo.build("chain"), one_shot, falling(0.99), 0.5, method, 1)
    assert str(nothing).splitlines()[1].endswith("metric 0.8000, too low.")
    assert str(nothing).endswith("No round was accepted: there is no slim model.")
    beyond = search(zoo.build("chain"), one_shot, falling(0), 0.5, method, 1, first_reduction=0.99)
    assert "99.0 % of the MACs to remove: out of reach." in str(beyond)


def test_each_round_is_told_as_it_ends(capsys):
    settings = {"rounds": 2, "first_reduction": 0.3, "method": MagnitudePruning(min_share=0.3)}
    found = search(zoo.build("chain"), one_shot, falling(0.4), 0.5, **settings, verbose=1)
    told = capsys.readouterr()
    first, second = told.err.splitlines()
    assert first == f"Round 1 of at most 2, {found.trials[0]}" and second.startswith("Round 2 of")
    assert told.out == ""
    search(zoo.build("chain"), one_shot, falling(0.4), 0.5, **settings)
    assert "".join(capsys.readouterr()) == ""
    with pytest.raises(ValueError, match="Expected verbose to be 'auto', 0 or 1"):
        search(zoo.build("chain"), one_shot, falling(0.4), 0.5, **settings, verbose="yes")


def test_a_drop_in_points_decides():
    """0.9 to 0.8 is ten points."""
    for drop, accepted in ((9.9, False), (10.1, True)):
        found = search(
            zoo.build("chain"), one_shot, falling(0.99), drop, MagnitudePruning(), rounds=1
        )
        assert found.trials[0].accepted == accepted
        assert (found.model is not None) == accepted


def test_what_is_out_of_reach_is_a_trial_that_failed():
    method = MagnitudePruning(min_share=0.8)
    found = search(
        zoo.build("chain"), one_shot, lambda model: 1.0, 0.5, method, rounds=3, first_reduction=0.9
    )
    assert found.trials[0].macs_left is None and not found.trials[0].accepted


def test_other_errors_of_a_round_are_raised():
    """An error that only reads like a target out of reach ends the search."""

    def fit(model):
        raise ValueError("the file cannot be reached")

    with pytest.raises(ValueError, match="the file cannot be reached"):
        search(zoo.build("chain"), fit, lambda model: 1.0, rounds=1)


@pytest.mark.tensorflow_only
def test_each_round_starts_from_the_trained_slim_model():
    """The weights that `fit` gets in the second round are those that it left in the first."""
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    y = np.zeros(32, "int32")
    dense = zoo.build("chain")
    dense.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = []

    def fit(model):
        assert model.compiled
        seen.append([model.predict(x, verbose=0)])
        model.fit(x, y, batch_size=8, epochs=5, verbose=0)
        seen[-1].append(model.predict(x, verbose=0))

    found = search(dense, fit, lambda model: 1.0, method=ResRep(), rounds=2, first_reduction=0.3)
    np.testing.assert_allclose(seen[1][0], seen[0][1], rtol=1e-4, atol=1e-5)
    assert [trial.accepted for trial in found.trials] == [True, True]
    assert found.trials[1].macs_left < found.trials[0].macs_left


BAD = [
    (
        lambda m: search(m, None, len),
        TypeError,
        "fit to be a function that trains a model; got None",
    ),
    (lambda m: search(m, len, 3), TypeError, "evaluate to be a function that maps .*; got 3"),
    (lambda m: search(m, len, len, -1), ValueError, "target_accuracy_drop .* got -1"),
    (
        lambda m: search(m, len, len, rounds=0),
        ValueError,
        "rounds to be an int of 1 or more; got 0",
    ),
    (
        lambda m: search(m, len, lambda n: "high"),
        ValueError,
        "a number such as an accuracy.*'high'",
    ),
    (lambda m: search(m, len, lambda n: np.nan), ValueError, "a finite number; got nan"),
    (lambda m: search("m", len, len), TypeError, "Expected dense to be a built keras"),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act(zoo.build("chain"))
