"""Exported files keep the names of the model, and models of any policy can be exported."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.surgery.forward import example_inputs, run
from resrep_keras.tflite.run import TFLiteRunner

pytestmark = pytest.mark.tensorflow_only


def inputs():
    return keras.Input((6,), name="right"), keras.Input((3,), name="left")


def as_list():
    right, left = inputs()
    both = layers.Concatenate()([right, left])
    heads = layers.Dense(1, name="price")(both), layers.Dense(2, name="age")(both)
    return keras.Model([right, left], list(heads)), {"right", "left"}, {"price": 1, "age": 2}


def as_dict():
    right, left = inputs()
    both = layers.Concatenate()([right, left])
    heads = {"z": layers.Dense(1)(both), "a": layers.Dense(2)(both)}
    return keras.Model({"right": right, "left": left}, heads), {"right", "left"}, {"z": 1, "a": 2}


def nested():
    image = keras.Input((4, 4, 1), name="picture")
    inner = keras.Input((4, 4, 1))
    part = keras.Model(inner, layers.Flatten()(layers.Conv2D(2, 3)(inner)), name="score")
    return keras.Model(image, part(image)), {"picture"}, {"score": 8}


@pytest.mark.parametrize("build", [as_list, as_dict, nested])
def test_a_file_is_run_by_the_names_of_the_model(tmp_path, build):
    import tensorflow as tf

    model, names, widths = build()
    assert resrep_keras.export(model, tmp_path / "m.tflite") <= 1e-5
    assert resrep_keras.export(model, tmp_path / "m") <= 1e-5
    arrays = example_inputs(model, batch_size=1)
    flat = dict(zip([x.name for x in model.inputs], keras.tree.flatten(arrays)))
    assert set(flat) == names
    expected = keras.tree.flatten(run(model, arrays))
    order = sorted(widths) if isinstance(model.output, dict) else list(widths)
    assert [value.shape[-1] for value in expected] == [widths[name] for name in order]
    # The file, by TFLite's own interface.
    signature = tf.lite.Interpreter(str(tmp_path / "m.tflite")).get_signature_runner()
    found = signature(**{name: ops.convert_to_numpy(value) for name, value in flat.items()})
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    served = loaded.signatures["serving_default"](**flat)
    for outputs in (found, served):
        assert set(outputs) == set(widths)
        for name, value in zip(order, expected):
            np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-6)
    # The other signature is called as the model is.
    for one, other in zip(keras.tree.flatten(loaded.serve(arrays)), expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "float64"])
def test_a_model_that_was_trained_under_a_policy(tmp_path, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((8, 8, 3), name="image", dtype="float32")
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(64, 3)(image)))
        x = layers.GlobalAveragePooling2D()(x)
        dense = keras.Model(image, layers.Dense(3, dtype="float32", name="kind")(x))
        model = resrep_keras.wrap(dense, resrep_keras.MagnitudePruning(0.4))
        model.compile("sgd", "mse")
        model.fit(np.ones((8, 8, 8, 3)), np.ones((8, 3)), epochs=3, batch_size=4, verbose=0)
        slim = resrep_keras.finalize(model)
        assert resrep_keras.export(slim, tmp_path / "slim.tflite") < 5e-2
        table = resrep_keras.report(dense, slim, repeats=1, leave_out=["widths"])
        assert table.row(".tflite file").ratio < 1
    finally:
        keras.config.set_dtype_policy(before)
    runner = TFLiteRunner((tmp_path / "slim.tflite").read_bytes())
    runner.set_inputs({"image": np.ones((1, 8, 8, 3))})
    runner.invoke()
    assert {k: v.dtype.name for k, v in runner.outputs().items()} == {"kind": "float32"}
    expected = np.asarray(ops.convert_to_numpy(slim(np.ones((1, 8, 8, 3)))), np.float64)
    np.testing.assert_allclose(runner.outputs()["kind"], expected, rtol=5e-2, atol=5e-2)


def test_a_policy_of_one_layer(tmp_path):
    value = keras.Input((4,))
    model = keras.Model(value, layers.Dense(2)(layers.Dense(8, dtype="mixed_float16")(value)))
    for name in ("m.tflite", "m.keras", "m"):
        assert resrep_keras.export(model, tmp_path / name) < 5e-3


def words(lookup):
    text = keras.Input((1,), dtype="string", name="word")
    x = layers.Flatten()(layers.Embedding(10, 4)(lookup(text)))
    return keras.Model(text, layers.Dense(2, name="score")(x))


def test_text_that_is_looked_up(tmp_path):
    model = words(layers.StringLookup(vocabulary=["yes", "no"]))
    for name in ("m.tflite", "m.keras", "m"):
        assert resrep_keras.export(model, tmp_path / name) <= 1e-5
    runner = TFLiteRunner((tmp_path / "m.tflite").read_bytes())
    for word in ("yes", "no", "perhaps"):
        runner.set_inputs({"word": np.array([[word]])})
        runner.invoke()
        expected = ops.convert_to_numpy(model(ops.convert_to_tensor([[word]])))
        np.testing.assert_allclose(runner.outputs()["score"], expected, rtol=1e-5, atol=1e-6)


def test_text_that_is_split_is_refused_in_words_before_anything_is_written(tmp_path):
    model = words(layers.TextVectorization(vocabulary=["yes", "no"], output_sequence_length=3))
    for name in ("m.keras", "m"):
        assert resrep_keras.export(model, tmp_path / name) <= 1e-5
    with pytest.raises(ValueError, match=r"(?s)Export it as \.keras or as a SavedModel.*String"):
        resrep_keras.export(model, tmp_path / "m.tflite")
    assert {path.name for path in tmp_path.iterdir()} == {"m.keras", "m"}


def test_whole_numbers_and_sparse_inputs(tmp_path):
    number = keras.Input((3,), dtype="int32", name="number")
    x = layers.Flatten()(layers.Embedding(10, 4)(number))
    assert resrep_keras.export(keras.Model(number, x), tmp_path / "m.tflite") <= 1e-5
    entries = keras.Input((6,), sparse=True, name="entries")
    model = keras.Model(entries, layers.Dense(2)(entries))
    for name in ("s.tflite", "s.keras", "s"):
        assert resrep_keras.export(model, tmp_path / name) <= 1e-5
