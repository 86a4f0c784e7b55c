"""Whatever way a wrapped model is saved, loaded, copied or handed over: all of it, or in words."""

import contextlib
import copy
import pickle
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.methods.pruning_log import log_of
from resrep_keras.optimizers.wrapper import find_wrapper

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.arange(32) % 3


class OwnStep(keras.Model):
    """Trained by a method of its own; not registered."""

    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs)


def net(kind=keras.Model):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dropout(0.3)(layers.Dense(8, activation="relu", name="hidden")(inputs))
    model = kind(inputs, layers.Dense(3, name="top")(x), name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.002), loss)
    return model


def wrapped(kind=keras.Model, method=None, **kwargs):
    model = resrep_keras.wrap(net(kind), method or resrep_keras.ResRep(0.3), **kwargs)
    model.fit(X, Y, epochs=3, batch_size=8, verbose=0)
    return model


def numbers(values):
    return [np.array(ops.convert_to_numpy(value)) for value in values]


def assert_same(model, other):
    assert type(other) is type(model) and other.compiled
    assert other.method.get_config() == model.method.get_config()
    assert log_of(other).to_dict() == log_of(model).to_dict()
    kinds = [type(find_wrapper(each.optimizer).inner_optimizer) for each in (model, other)]
    assert kinds == [keras.optimizers.Adam] * 2
    pairs = [(each.variables, each.optimizer.variables) for each in (model, other)]
    for ours, theirs in zip(*pairs):
        for one, same in zip(numbers(ours), numbers(theirs), strict=True):
            np.testing.assert_array_equal(one, same)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", [keras.Model, OwnStep])
def test_a_copy_in_memory_goes_on_as_the_model(way, kind):
    model = wrapped(kind)
    other = COPIES[way](model)
    assert_same(model, other)
    before = model.get_weights()
    other.fit(X, Y, epochs=1, batch_size=8, verbose=0)
    for one, same in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, same)  # nothing is shared
    slim = resrep_keras.finalize(other)
    assert resrep_keras.count_macs(slim) < resrep_keras.count_macs(model)


def test_a_class_that_nobody_registered_is_copied_too():
    class Local(OwnStep):
        pass

    model = wrapped(Local)
    assert_same(model, copy.deepcopy(model))


def test_a_copy_in_memory_has_the_same_teacher_and_a_file_none():
    teacher = net()
    model = wrapped(teacher=teacher)
    other = copy.deepcopy(model)
    assert other.distilled.value.settings.teacher is teacher
    other.fit(X, Y, batch_size=8, verbose=0)
    other = COPIES["pickle"](model)
    with pytest.raises(ValueError, match="learns from a teacher, which is not saved with it"):
        other.fit(X, Y, batch_size=8, verbose=0)


def _around(model):
    inputs = keras.Input((6,))
    return keras.Model(inputs, model(inputs))


SAVES = {
    "save": lambda model, path: model.save(path),
    "saving": lambda model, path: keras.saving.save_model(model, path),
    "models": lambda model, path: keras.models.save_model(model, path),
    "inside": lambda model, path: _around(model).save(path),
}


@pytest.mark.parametrize("door", SAVES)
@pytest.mark.parametrize("method", ["ResRep", "GraNet"])
def test_the_older_format_is_warned_of_at_each_door(door, method, tmp_path):
    model = wrapped(method=getattr(resrep_keras, method)(0.3))
    with pytest.warns(UserWarning, match="older format .*of model 'net' .*begins a new run"):
        SAVES[door](model, tmp_path / "model.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        SAVES[door](model, tmp_path / "model.keras")


def test_the_older_format_takes_no_optimizer_from_what_is_saved_next(tmp_path):
    model = wrapped()
    with pytest.warns(UserWarning, match="older format"):
        model.save(tmp_path / "model.h5")
    model.save(tmp_path / "model.keras")
    assert_same(model, keras.models.load_model(tmp_path / "model.keras"))


@pytest.mark.parametrize("door", ["model", "keras"])
def test_weights_bring_the_optimizer_by_each_door(door, tmp_path):
    model = wrapped()
    if door == "model":
        model.save_weights(tmp_path / "model.weights.h5")
    else:
        keras.saving.save_weights(model, tmp_path / "model.weights.h5")
    other = resrep_keras.wrap(net(), resrep_keras.ResRep(0.3))
    if door == "model":
        other.load_weights(tmp_path / "model.weights.h5")
    else:
        keras.saving.load_weights(other, tmp_path / "model.weights.h5")
    assert_same(model, other)


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("method", ["ResRep", "GraNet"])
def test_an_export_with_compactors_is_told(method, tmp_path):
    model = wrapped(method=getattr(resrep_keras, method)(0.3))
    told = pytest.warns(UserWarning, match="exported with its compactors")
    with told if method == "ResRep" else contextlib.nullcontext():
        model.export(tmp_path / "exported", verbose=False)


def test_a_wrapped_model_is_not_quantized():
    model = resrep_keras.wrap(net(), resrep_keras.ResRep(0.3))
    with pytest.raises(ValueError, match=r"Quantize what resrep_keras\.finalize\(model\) returns"):
        model.quantize("int8")
