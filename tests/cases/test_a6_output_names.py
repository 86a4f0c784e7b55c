"""An output keeps its name, which losses and metrics go by, though nested models are opened."""

import keras
import numpy as np
import pytest
from keras import layers

import resrep_keras
from resrep_keras.graph.trace import recording_of
from tests import helpers


def head(name):
    return keras.Sequential(
        [keras.Input((16,)), layers.Dense(8, activation="relu"), layers.Dense(1)], name=name
    )


def two_heads():
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(16, activation="relu", name="stem")(inputs)
    return keras.Model(inputs, [head("age")(x), head("price")(x)])


def compiled():
    model = two_heads()
    model.compile("sgd", {"age": "mse", "price": "mae"}, metrics={"age": ["mae"], "price": ["mse"]})
    return model


def data():
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    return x, {"age": x[:, :1], "price": x[:, 1:2]}


@pytest.mark.parametrize(
    "method", [resrep_keras.ResRep(0.4), resrep_keras.ResRep(0.4, slim_every=1)]
)
def test_losses_by_name_train_and_the_history_has_the_same_keys(method, tmp_path):
    dense = compiled()
    wrapped = resrep_keras.wrap(dense, method)
    assert wrapped.output_names == dense.output_names == ["age", "price"]
    assert helpers.difference(dense, wrapped) < 1e-6
    wrapped.save(tmp_path / "wrapped.keras")
    loaded = keras.models.load_model(tmp_path / "wrapped.keras")
    assert loaded.output_names == ["age", "price"]
    keys = set(dense.fit(*data(), verbose=0).history)
    assert keys == {"loss", "age_loss", "price_loss", "age_mae", "price_mse"}
    assert keys < set(loaded.fit(*data(), verbose=0, epochs=1).history)
    assert keys < set(wrapped.fit(*data(), verbose=0, epochs=10).history)
    assert wrapped.output_names == ["age", "price"]
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.output_names == ["age", "price"]
    slim.save(tmp_path / "slim.keras")
    assert keras.models.load_model(tmp_path / "slim.keras").output_names == ["age", "price"]
    fresh = resrep_keras.redesign(slim, {})  # compiled as `slim` is
    assert set(fresh.fit(*data(), verbose=0).history) == keys


def test_a_pruned_model_and_one_with_masks_keep_the_names():
    slim = resrep_keras.MagnitudePruning(0.4).prune(two_heads())
    assert slim.output_names == ["age", "price"]
    wrapped = resrep_keras.wrap(compiled(), resrep_keras.GraNet(final_sparsity=0.5))
    assert wrapped.output_names == ["age", "price"]


def test_only_outputs_of_nested_models_get_a_layer_for_their_name():
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(16, name="own")(inputs)
    model = keras.Model(inputs, {"a": x, "b": head("nested")(x)})
    recording = recording_of(model)
    kinds = [type(recorded.operation).__name__ for recorded in recording.calls]
    assert kinds == ["Dense", "Dense", "Dense", "Identity"]
    assert recording.calls[-1].name == "nested"
    again = recording_of(resrep_keras.wrap(model, resrep_keras.ResRep(0.3)))
    assert sum(isinstance(r.operation, layers.Identity) for r in again.calls) == 1


def test_an_inner_layer_of_the_name_of_its_model_leaves_it_to_the_output():
    inputs = keras.Input((6,), name="x")
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name="age"), layers.ReLU(name="act")], name="age"
    )
    model = keras.Model(inputs, [inner(inputs), layers.Dense(2, name="other")(inputs)])
    assert [recorded.name for recorded in recording_of(model).calls] == [
        "other",
        "age_age",
        "act",
        "age",
    ]


def test_a_nested_model_that_gives_two_outputs_keeps_the_name_that_both_have():
    inputs = keras.Input((6,), name="x")
    both = layers.Dense(4)(inputs)
    nested = keras.Model(inputs, [layers.ReLU()(both), layers.Dense(2)(both)], name="pair")
    outer = keras.Input((6,), name="y")
    model = keras.Model(outer, nested(layers.Dense(6, activation="relu")(outer)))
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.3))
    assert wrapped.output_names == model.output_names == ["pair", "pair"]
    assert helpers.difference(model, wrapped) < 1e-6


@pytest.mark.parametrize("policy", ["mixed_bfloat16"], indirect=True)
def test_an_output_in_another_dtype_than_the_policy_is_not_cast(policy):
    inputs = keras.Input((6,))
    nested = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8), layers.Dense(2, dtype="float32")], name="nested"
    )
    model = keras.Model(inputs, nested(inputs))
    wrapped = resrep_keras.wrap(model, resrep_keras.ResRep(0.3))
    assert wrapped.output_names == ["nested"] and wrapped.output.dtype == "float32"
