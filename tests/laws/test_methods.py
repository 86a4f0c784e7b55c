"""The laws over methods, on the whole way: wrap, the end of a run, finalize; and on real runs."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import resrep_keras
from tests import helpers, zoo
from tests.conditions import training
from tests.methods.table import (
    ROWS,
    each_method,
    each_refusal,
    each_row,
    each_row_and_member,
    each_setting,
    each_third_method,
)
from tests.paths import LOAD_WITHOUT_PACKAGE

# Some members of the zoo have channels whose damage cannot be measured.
pytestmark = pytest.mark.filterwarnings("ignore:AOFP keeps all channels")


def library_objects(model):
    """The library's layers, by name and class; a SelfAttentionPooling is the user's own."""
    kinds = {layer.name: type(layer) for layer in model.layers}
    return {name: kind for name, kind in kinds.items() if "resrep_keras" in kind.__module__}


@each_row_and_member
def test_the_whole_way(row, name):
    """`wrap` changes nothing, a run ends at the target, and `finalize` computes the same."""
    dense = zoo.build(name)
    before = [ops.convert_to_numpy(w).copy() for w in dense.weights]
    model = resrep_keras.wrap(dense, row.make())
    assert helpers.difference(dense, model) <= 1e-6
    for weight, value in zip(dense.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), value)
    assert not {id(w) for w in dense.weights} & {id(w) for w in model.weights}
    assert bool(helpers.compactors(model)) == (row.removes == "channels")

    row.finish(model)
    slim = resrep_keras.finalize(model, strict=True)
    assert helpers.difference(model, slim) <= 1e-4
    assert slim.certificate.max_relative <= 1e-4
    assert resrep_keras.count_macs(slim) == slim.certificate.macs_slim
    if row.removes == "channels":
        assert slim.certificate.macs_left < 1
        assert all(value <= most for _, value, most in slim.certificate.limits)
    assert library_objects(slim) == library_objects(dense)  # none that it had not before
    assert type(slim) is type(keras.Model(slim.inputs, slim.outputs))


@each_refusal
def test_what_a_method_cannot_work_on_is_refused(row, name, text):
    with pytest.raises(ValueError, match=text):
        resrep_keras.wrap(zoo.build(name), row.make())


# --- values ---------------------------------------------------------------------------------------


@each_setting
def test_settings_come_back_from_their_configuration(method):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(method)))
    revived = keras.saving.deserialize_keras_object(config)
    assert revived == method and repr(revived) == repr(method) and hash(revived) == hash(method)
    assert revived.get_config() == method.get_config()
    others = [other for row in ROWS for other in row.settings if other is not method]
    assert not any(revived == other for other in others)


@each_row
def test_each_row_sets_something(row):
    """A row without settings is a second row of a method that has some."""
    kinds = {type(other.make()) for other in ROWS if other.settings}
    assert type(row.make()) in kinds
    assert row.make() == row.make() and row.make() is not row.make()


@each_row
def test_the_target_comes_first_and_the_length_of_a_run_can_be_given(row):
    kind = type(row.make())
    if kind is resrep_keras.FineTuning:
        return  # has no target
    if kind is type(resrep_keras.compose(*ROWS[-1].settings[0].methods)):
        return  # takes methods
    first = next(iter(kind(0.4).get_config()))
    assert first in ("target_reduction", "final_sparsity", "rate", "strength")
    assert vars(kind(0.4))[first] == 0.4
    assert kind(0.4, total_steps=5).total_steps == 5 and kind(0.4).total_steps is None
    with pytest.raises(ValueError, match="total_steps to be an int of 1 or more; got 0"):
        kind(0.4, total_steps=0)


# --- runs -----------------------------------------------------------------------------------------

EPOCHS = 8


def begin(row):
    keras.utils.set_random_seed(1)
    return training.wrapped(keras.optimizers.SGD(0.01, momentum=0.9), row.trained())


@each_method
def test_a_run_meets_its_target(row):
    model = begin(row)
    history = training.fit(model, EPOCHS).history
    assert model.method.target_met(model)
    slim = resrep_keras.finalize(model, strict=True)
    assert all(np.isfinite(weight).all() for weight in slim.get_weights())
    if row.removes == "channels":
        assert history["macs_left"][-1] == slim.certificate.macs_left < 1
    assert not library_objects(slim)


class Stop(keras.callbacks.Callback):
    """The plan is that of the whole run; the interruption comes from outside."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 == self.epoch


@pytest.mark.tensorflow_only
@each_third_method
def test_saved_and_resumed_equals_uninterrupted(row, tmp_path):
    whole = begin(row)
    training.fit(whole, EPOCHS)
    part = begin(row)
    path = tmp_path / "part.keras"
    for first, last in ((0, 1), (1, 5), (5, EPOCHS)):  # before and behind the first selection
        training.fit(part, EPOCHS, initial_epoch=first, callbacks=[Stop(last)])
        part.save(path)
        revived = keras.models.load_model(path)
        assert revived.method == part.method and revived.baseline == part.baseline
        assert json.dumps(revived.get_config()) == json.dumps(part.get_config())
        assert helpers.difference(part, revived) == 0
        part = revived
    for pairs in (
        zip(whole.variables, part.variables, strict=True),
        zip(whole.optimizer.variables, part.optimizer.variables, strict=True),
    ):
        for a, b in pairs:
            np.testing.assert_array_equal(
                ops.convert_to_numpy(a), ops.convert_to_numpy(b), err_msg=a.path
            )


@pytest.mark.slow  # test_standalone has one model of each kind
@pytest.mark.tensorflow_only
def test_slim_models_load_without_the_package(tmp_path):
    for row in ROWS:
        model = resrep_keras.wrap(zoo.build("residual"), row.make())
        row.finish(model)
        slim = resrep_keras.finalize(model, strict=True)
        resrep_keras.export(slim, tmp_path / f"{row.name}.keras")
        inputs = helpers.example_inputs(slim)
        arrays = [np.asarray(x) for x in keras.tree.flatten(inputs)]
        np.savez(tmp_path / f"{row.name}_in.npz", *arrays)
        np.savez(tmp_path / f"{row.name}_expected.npz", *helpers.outputs_of(slim))
    names = [row.name for row in ROWS]
    command = [sys.executable, "-c", LOAD_WITHOUT_PACKAGE, str(tmp_path), *names]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""})
    for name in names:
        expected, actual = (
            dict(np.load(tmp_path / f"{name}_{which}.npz")) for which in ("expected", "out")
        )
        for key in expected:
            np.testing.assert_allclose(actual[key], expected[key], rtol=1e-5, atol=1e-5)
