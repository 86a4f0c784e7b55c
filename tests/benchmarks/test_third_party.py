"""The table of models from outside: products of TensorFlow's own, and what counts as right."""

import keras
import pytest
from keras import layers, ops

import resrep_keras
from tests import paths

products = paths.benchmarks("products")
page = paths.benchmarks("third_party_page")

ROW = {
    **{"model": "one", "source": "yolo", "channels": 10, "channels_reachable": 8},
    **{"macs_reachable": 1.0, "difference": 1e-7, "wrap_difference": 0.0, "macs_slim": 90},
    **{"macs_of_graph": {"all": 100, "moving": 6, "cut_off": 4}, "reloaded_difference": 0.0},
    **{"tflite_difference": "ValueError: no", "output_spread": 0.5, "wrap_seconds": 1.0},
    **{"finalize_seconds": 2.0, "kept": {"an output of the model": 2}},
    **{"kept_kinds": {"OUTPUT": 2}},
}


@pytest.mark.tensorflow_only
def test_patches_that_are_cut_out_by_a_convolution_are_told_apart():
    inputs = keras.Input((8, 8, 3))
    outputs = layers.Dense(5)(ops.image.extract_patches(inputs, 4))
    model = keras.Model(inputs, outputs)
    counted = products.count_products(model)
    dense = 4 * 48 * 5
    patches = {"moving": 4 * 48 * 48, "cut_off": 0, "outer": 0}
    assert vars(counted) == {"all": dense + 4 * 48 * 48, **patches}
    assert resrep_keras.count_macs(model) == dense


@pytest.mark.tensorflow_only
def test_a_vector_that_is_taken_up_by_an_outer_product_is_told_apart():
    """The layer that holds a scale reads a one; a layer that reads one channel does work."""
    inputs = keras.Input((1,))
    one = ops.reshape(ops.slice(ops.ones_like(inputs), (0, 0), (1, 1)), (1,))
    scale = layers.EinsumDense("a,b->ab", output_shape=(7,))(one)
    model = keras.Model(inputs, layers.Dense(7)(inputs) * scale)
    counted = products.count_products(model)
    assert vars(counted) == {"all": 7 + 7, "moving": 0, "cut_off": 0, "outer": 7}
    assert resrep_keras.count_macs(model) == 7


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("rate", [1, 2, 3])
def test_positions_that_a_dilated_convolution_cuts_off_are_told_apart(rate):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Conv2D(5, 3, dilation_rate=rate, padding="same")(inputs))
    counted = products.count_products(model)
    assert counted.all - counted.cut_off == 8 * 8 * 27 * 5 == resrep_keras.count_macs(model)
    blocks = -(-8 // rate) * rate
    assert counted.all == blocks * blocks * 27 * 5 and counted.moving == 0


@pytest.mark.parametrize(
    "change",
    [
        {"error": "ValueError: no"},
        {"difference": 2e-4},
        {"wrap_difference": 2e-4},
        {"reloaded_difference": 2e-4},
        {"output_spread": 5e-6},
        {"macs_slim": 91},
    ],
)
def test_a_row_is_right_only_if_all_of_it_is(change):
    assert page.is_right(ROW)
    assert not page.is_right(ROW | change)


def test_what_keras_changes_of_the_unpruned_model_is_no_fault_of_the_slim_one():
    changed = ROW | {"reloaded_difference": 2e-4}
    assert page.is_right(changed | {"dense_reloaded": 2e-4})
    assert not page.is_right(changed | {"dense_reloaded": 0.0})
    assert not page.is_right(changed | {"dense_reloaded": 2e-4, "difference": 2e-4})


def test_the_page_tells_failures_shares_and_reasons():
    result = {"command": "it", "machine": "here", "seed": 0, "packages": ["a==1"]}
    made = page.as_page(result | {"rows": [ROW, {**ROW, "model": "two", "error": "E: a | b"}]})
    assert "- 2 models, 1 of which fail." in made
    assert "- 8 of 10 channels (80.0 %) can be pruned." in made
    assert "(below), 100.0 %." in made
    row = "| one | 80.0 | 100.0 | 1.0e-07 | equal + 6 patches + 4 cut off | 0e+00 | no (V"
    assert row in " ".join(made.split())  # columns are aligned
    assert "| two | failed: E: a \\| b |" in " ".join(made.split())
    assert "- **OUTPUT**, 2 channels. The answer of the model" in made


def test_every_kind_of_pin_has_a_reason():
    from resrep_keras.graph.pins import PinKind

    assert {kind.name for kind in PinKind} - set(page.REASONS) == {"LORA", "QUANTISED"}
