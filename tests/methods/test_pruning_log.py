"""What is recorded while a wrapped model trains."""

import json

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from resrep_keras.methods.pruning_log import (
    MOST,
    PruningLog,
    as_log,
    keep_log,
    log_of,
    norms_of,
)
from tests import helpers, zoo


@pytest.fixture(scope="module")
def trained():
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(0.4))
    model.compile("sgd", "mse", metrics=["mae"])
    x = helpers.example_inputs(model, 16)
    y = np.zeros((16, *model.output_shape[1:]), "float32")
    history = model.fit(x, y, epochs=6, batch_size=4, validation_split=0.25, verbose=0)
    return model, history


def test_each_epoch_and_each_selection_is_noted(trained):
    model, history = trained
    log = log_of(model)
    assert [entry.epoch for entry in log.epochs] == [1, 2, 3, 4, 5, 6]
    assert [entry.step for entry in log.epochs] == [3, 6, 9, 12, 15, 18]
    for name, values in history.history.items():
        assert [entry.values[name] for entry in log.epochs] == pytest.approx(values)
    steps, left = log.curve("macs_left")
    assert steps[0] == 0 and left[0] == 1.0 and len(steps) > 7  # the start, and selections
    assert list(steps) == sorted(steps)


def test_norms_are_those_of_the_compactors(trained):
    model, _ = trained
    first, last = log_of(model).entries[0].norms, log_of(model).entries[-1].norms
    assert set(first.kept) == {1.0} and not first.masked and first.num_masked == 0
    state = ChannelState(model)
    free = np.concatenate([group.channels[~group.pinned] for group in state.groups])
    norms, kept = state.norms()[free], state.kept()[free]
    assert (last.num_kept, last.num_masked + last.num_zero) == (kept.sum(), (~kept).sum())
    assert last.num_zero >= 1 and set(last.masked) == {0.0}
    assert last.kept[0] == pytest.approx(norms[kept].min(), rel=1e-5)
    assert last.kept[2] == pytest.approx(np.median(norms[kept]), rel=1e-5)
    assert last == norms_of(state)


def test_it_goes_with_the_slim_model_and_into_files(trained, tmp_path):
    model, _ = trained
    log = log_of(model)
    assert log_of(resrep_keras.finalize(model)) is log
    model.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras")
    assert log_of(loaded).to_dict() == log.to_dict()
    assert log_of(zoo.build("chain")) is None


def test_methods_without_compactors_log_their_epochs():
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.GraNet(0.5))
    model.compile("sgd", "mse")
    x = helpers.example_inputs(model, 8)
    model.fit(x, np.zeros((8, *model.output_shape[1:]), "float32"), epochs=2, verbose=0)
    log = log_of(model)
    assert len(log.epochs) == 2 and not log.with_norms and "sparsity" in log.names()


def test_json_and_back():
    log = PruningLog()
    log.add(0, None, {"macs_left": np.float32(1)})
    log.add(5, 1, {"loss": 2, "each": np.ones(3), "flag": True, "name": "x"}, norms=None)
    told = json.loads(json.dumps(log.to_dict()))
    assert told["entries"][1]["values"] == {"loss": 2.0}
    assert PruningLog.from_dict(told).to_dict() == log.to_dict()


def test_a_long_run_keeps_its_epochs_and_loses_selections():
    log = PruningLog()
    for step in range(3 * MOST):
        log.add(step, step // 100 if step % 100 == 0 else None, {"loss": step})
    assert len(log.entries) <= MOST and len(log.epochs) == 3 * MOST // 100
    steps = [entry.step for entry in log.entries]
    assert steps == sorted(steps) and steps[-1] == 3 * MOST - 1


def test_what_fit_returns_is_a_log_by_epoch(trained):
    _, history = trained
    log = as_log(history)
    assert log.counts == "epoch" and log.curve("loss")[0] == (1, 2, 3, 4, 5, 6)
    assert log.to_dict() == as_log(history.history).to_dict() and as_log(log) is log
    ragged = as_log({"loss": [3.0, 2.0], "val_loss": [4.0]})
    assert ragged.curve("val_loss") == ((1,), (4.0,)) and ragged.curve("none") == ((), ())
    with pytest.raises(TypeError, match=r"Expected history to be what fit.* returns, .*; got 3"):
        as_log(3)


def test_a_log_can_be_taken_away():
    model = zoo.build("chain")
    assert log_of(model) is None
    log = keep_log(model, PruningLog())
    assert log_of(model) is log
    keep_log(model, None)
    assert log_of(model) is None
