"""One task after the other."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import EWC, MAS, ANPyC, FineTuning, SynapticIntelligence, end_task, task_model
from tests.methods.consolidation import nets

METHODS = {
    "FineTuning": FineTuning,
    "EWC": lambda: EWC(1.0, samples=20),
    "MAS": lambda: MAS(0.1, samples=20),
    "SynapticIntelligence": SynapticIntelligence,
    "ANPyC": lambda: ANPyC(0.1, initial_percent=None),
    "ANPyC that prunes": lambda: ANPyC(0.1, retrain_epochs=1),
}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)


@each_method
def test_each_task_trains_the_trunk_and_its_own_head(make):
    model = nets.wrapped(make())
    for task in range(nets.TASKS):
        before = nets.weights_of(model)
        nets.fit(model, task)
        after = nets.weights_of(model)
        moved = {path for path in before if (before[path] != after[path]).any()}
        assert {f"head_{task}/kernel", f"head_{task}/bias", "first/kernel"} <= moved
        assert not {path for path in moved if path.startswith("head")} - {
            f"head_{task}/kernel",
            f"head_{task}/bias",
        }
        x, y = nets.data(task)
        np.testing.assert_array_equal(
            model.predict(x, verbose=0), task_model(model, task).predict(x, verbose=0)
        )
        assert model.evaluate(x, y, verbose=0) == task_model(model, task).evaluate(x, y, verbose=0)
        end_task(model, x, y)
    with pytest.raises(ValueError, match=r"All 3 tasks of model .* have ended"):
        nets.fit(model)
    with pytest.raises(ValueError, match=r"All 3 tasks of model .* have ended"):
        end_task(model, *nets.data())


@each_method
def test_finalize_gives_all_heads_with_the_weights_that_were_trained(make):
    model = nets.wrapped(make())
    nets.learn(model)
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.output_names == ["head_0", "head_1", "head_2"]
    assert type(slim) is type(keras.Model(slim.inputs, slim.outputs))
    found, expected = nets.weights_of(slim), nets.weights_of(model)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value)
