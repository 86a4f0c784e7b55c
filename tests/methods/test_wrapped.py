"""Any model can be asked for its method and what was noted of the dense one."""

import keras

import resrep_keras
from resrep_keras.methods.wrapped import baseline_of, method_of, notes_of
from tests import zoo


def test_a_wrapped_model_answers():
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(0.3))
    assert method_of(model) == resrep_keras.ResRep(0.3)
    assert baseline_of(model) is model.baseline is not None


def test_other_models_have_neither():
    model = keras.Sequential([keras.Input((2,))])
    assert method_of(model) is None and baseline_of(model) is None


def test_notes_live_in_the_model_and_are_not_saved(tmp_path):
    model = resrep_keras.wrap(zoo.build("chain"), resrep_keras.ResRep(0.3))
    notes_of(model)["itself"] = model
    assert notes_of(model)["itself"] is model
    model.save(tmp_path / "model.keras")
    assert notes_of(keras.models.load_model(tmp_path / "model.keras")) == {}
