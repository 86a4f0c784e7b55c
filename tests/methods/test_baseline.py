"""What is noted of the dense model: a value, saved, joined, going on with each removal."""

import json

import keras

import resrep_keras
from resrep_keras.methods.baseline import Baseline, Removal
from resrep_keras.methods.wrapped import baseline_of
from tests import zoo


def test_a_removal_keeps_the_widths_of_the_dense_model():
    first = Removal().then(3, {"conv": 8}, 1e-7)
    second = first.then(2, {"conv": 5, "dense": 4}, 2e-7)
    assert not Removal() and first
    assert second == Removal(5, {"conv": 8, "dense": 4}, (1e-7, 2e-7))


def test_joined_takes_what_only_one_knows():
    channels = Baseline(
        {"macs": 10, "params": 5}, {"params": None}, ("first",), Removal(1, {}, (0.0,))
    )
    gradients = Baseline(dense={"macs": 11}, places={"conv": {"at": "input"}})
    both = channels.joined(gradients)
    assert both.dense == {"macs": 10, "params": 5}
    assert both.places == gradients.places
    assert (both.exclude, both.removal) == (channels.exclude, channels.removal)
    assert Baseline().joined(channels) == channels


def test_config_is_json_and_gives_the_value_back():
    baseline = Baseline(
        {"latency": 0.5},
        {"latency": {"tables": [{"outputs": (1, 2)}]}},
        ("first",),
        removal=Removal(1, {}, (0.0,)),
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(baseline)))
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == baseline.get_config()
    assert again.exclude == ("first",) and again.removal == baseline.removal
    assert again.facts["latency"]["tables"][0]["outputs"] == [1, 2]


def test_each_kind_of_method_notes_a_baseline(tmp_path):
    dense = zoo.build("residual")
    methods = {
        "channels": resrep_keras.ResRep(),
        "sparse": resrep_keras.GraNet(),
        "gradients": resrep_keras.ActivationGradientPruning(),
    }
    methods["both"] = resrep_keras.compose(methods["channels"], methods["gradients"])
    noted = {name: resrep_keras.wrap(dense, method) for name, method in methods.items()}
    assert baseline_of(noted["channels"]).dense["macs"] == resrep_keras.count_macs(dense)
    assert noted["sparse"].baseline == Baseline()
    assert noted["gradients"].baseline.places
    assert noted["both"].baseline.places.keys() <= noted["gradients"].baseline.places.keys()
    assert baseline_of(dense) is None
    for name, model in noted.items():
        model.save(tmp_path / f"{name}.keras")
        assert keras.models.load_model(tmp_path / f"{name}.keras").baseline == model.baseline
