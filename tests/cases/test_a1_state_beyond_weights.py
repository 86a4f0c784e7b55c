"""A copy holds all that a layer holds: statistics, vocabularies, flags and seeds, and not weights
alone."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.graph.trace import recording_of
from tests.paths import ROOT
from tests.sampling import sample


def values(model, x, **kwargs):
    return ops.convert_to_numpy(model(x, **kwargs))


def difference(first, second, x):
    expected = values(first, x)
    return np.abs(values(second, x) - expected).max() / np.abs(expected).max()


def normalized():
    """A net behind an adapted Normalization, and inputs of mean 50, deviation 9."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(50, 9, (64, 8)).astype("float32")
    normalization = layers.Normalization(name="norm")
    normalization.adapt(x)
    inputs = keras.Input((8,))
    h = layers.Dense(16, activation="relu", name="a")(normalization(inputs))
    h = layers.Dense(16, activation="relu", name="b")(h)
    return keras.Model(inputs, layers.Dense(1)(h)), x


def test_every_copy_normalises():
    dense, x = normalized()
    wrapped = resrep_keras.wrap(dense)
    assert difference(dense, wrapped, x) < 1e-6
    for layer in wrapped.layers:
        if isinstance(layer, resrep_keras.Compactor):
            layer.kernel.assign(layer.kernel * (np.arange(16) < 8))
    slim = resrep_keras.finalize(wrapped, data=x)
    assert difference(wrapped, slim, x) < 1e-5
    assert slim.certificate.data_max_relative < 1e-5
    full = resrep_keras.surgery.remove.remove_channels(dense, {})
    assert difference(dense, full, x) < 1e-6


def test_a_pruned_model_normalises():
    dense, x = normalized()
    slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
    norm = slim.get_layer("norm")
    np.testing.assert_allclose(values(norm, x).mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(values(norm, x).std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize(
    "method",
    sample([resrep_keras.GraNet(0.5), resrep_keras.ResRep(0.5)], first=1),
    ids=["GraNet", "ResRep"],
)
def test_a_saved_wrapped_model_normalises_in_another_process(method, tmp_path):
    dense, x = normalized()
    wrapped = resrep_keras.wrap(dense, method)
    wrapped.save(tmp_path / "wrapped.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "expected.npy", values(dense, x))
    text = f"""
        import keras, numpy as np, resrep_keras
        model = keras.models.load_model(r"{tmp_path}/wrapped.keras")
        found = keras.ops.convert_to_numpy(model(np.load(r"{tmp_path}/x.npy")))
        np.testing.assert_allclose(found, np.load(r"{tmp_path}/expected.npy"), rtol=1e-4, atol=1e-5)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(text)], check=True, cwd=ROOT)


def test_an_exported_slim_model_is_the_one_in_memory(tmp_path):
    dense, x = normalized()
    slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
    assert resrep_keras.export(slim, tmp_path / "slim.keras") < 1e-5
    assert difference(slim, keras.models.load_model(tmp_path / "slim.keras"), x) < 1e-6


def test_a_redesigned_model_keeps_the_statistics_and_draws_weights_anew():
    dense, x = normalized()
    fresh = resrep_keras.redesign(dense, {"a": 5})
    assert fresh.get_layer("a").units == 5
    np.testing.assert_allclose(values(fresh.get_layer("norm"), x).mean(axis=0), 0, atol=1e-4)
    old = ops.convert_to_numpy(dense.get_layer("b").kernel)[:5]
    new = ops.convert_to_numpy(fresh.get_layer("b").kernel)
    assert np.abs(old - new).max() > 0.01


def test_channels_removed_in_training_leave_the_statistics():
    dense, x = normalized()
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.5, slim_every=1))
    wrapped.compile(keras.optimizers.SGD(1e-3), "mse")
    wrapped.fit(x, x[:, :1] / 50, epochs=8, batch_size=16, verbose=0)
    assert wrapped.get_layer("a").units < 16
    norm = wrapped.get_layer("norm")
    np.testing.assert_allclose(values(norm, x).mean(axis=0), 0, atol=1e-4)


def test_a_narrowed_normalization_keeps_the_statistics_of_its_channels():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    norm = layers.Normalization(name="norm")
    outputs = layers.Dense(2)(norm(layers.Dense(4, name="a")(inputs)))
    norm.adapt(np.random.default_rng(0).normal(3, 2, (100, 4)).astype("float32"))
    model = keras.Model(inputs, outputs)
    keep = np.array([True, False, True, False])
    slim = resrep_keras.surgery.remove.remove_channels(model, {"a": keep})
    x = np.random.default_rng(1).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(
        values(slim.get_layer("norm"), x[:, keep]), values(norm, x)[:, keep], rtol=1e-6
    )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="statistics are the same")
def test_a_whole_application_keeps_its_statistics():
    keras.utils.set_random_seed(0)
    dense = keras.applications.EfficientNetB0(
        weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None
    )
    (norm,) = (x for x in dense.layers if isinstance(x, layers.Normalization))
    norm.adapt(np.random.default_rng(0).uniform(0, 1, (50, 32, 32, 3)).astype("float32"))
    x = np.random.default_rng(1).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    wrapped = resrep_keras.wrap(dense)
    assert difference(dense, wrapped, x) < 1e-4
    wrapped.method = None
    slim = resrep_keras.finalize(wrapped)
    assert difference(dense, slim, x) < 1e-3
    mean = ops.convert_to_numpy(slim.get_layer(norm.name).mean)
    np.testing.assert_array_equal(mean, ops.convert_to_numpy(norm.mean))


# --- tables ---------------------------------------------------------------------------------------

WORDS = np.array([["a", "c"], ["b", "b"], ["c", "d"]])
NUMBERS = np.array([[3, 5], [5, 5], [7, 9]])
TEXTS = np.array(["a b c", "c d a", "d d"])
TABLES = {
    "integers": (lambda: layers.IntegerLookup(), NUMBERS, "int64"),
    "integers multi_hot": (lambda: layers.IntegerLookup(output_mode="multi_hot"), NUMBERS, "int64"),
    "integers tf_idf": (lambda: layers.IntegerLookup(output_mode="tf_idf"), NUMBERS, "int64"),
    "words": (lambda: layers.StringLookup(), WORDS, "string"),
    "words count": (lambda: layers.StringLookup(output_mode="count"), WORDS, "string"),
    "texts": (lambda: layers.TextVectorization(output_sequence_length=3), TEXTS, "string"),
    "texts tf_idf": (lambda: layers.TextVectorization(output_mode="tf_idf"), TEXTS, "string"),
    "bins": (lambda: layers.Discretization(num_bins=3), NUMBERS.astype("float32"), "float32"),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tables are TensorFlow's")
@pytest.mark.parametrize("name", TABLES)
def test_adapted_tables_are_in_every_copy(name, tmp_path):
    make, data, dtype = TABLES[name]
    keras.utils.set_random_seed(0)
    table = make()
    table.adapt(data)
    inputs = keras.Input(data.shape[1:], dtype=dtype)
    h = table(inputs)
    if "_" not in name and name != "words count":
        h = layers.GlobalAveragePooling1D()(layers.Embedding(12, 6)(h))
    h = layers.Dense(8, activation="relu")(h)
    dense = keras.Model(inputs, layers.Dense(2)(h))
    x = ops.convert_to_tensor(data)
    wrapped = resrep_keras.wrap(dense)
    assert difference(dense, wrapped, x) < 1e-6
    wrapped.save(tmp_path / "wrapped.keras")
    assert difference(dense, keras.models.load_model(tmp_path / "wrapped.keras"), x) < 1e-6
    full = resrep_keras.surgery.remove.remove_channels(dense, {})
    assert difference(dense, full, x) < 1e-6


# --- own layers -----------------------------------------------------------------------------------


class Centred(layers.Layer):
    """Subtracts a mean that it has measured: no weight, and saved by hooks."""

    measured = None

    def adapt(self, data):
        self.measured = np.asarray(data).mean(axis=0)

    def call(self, inputs):
        return inputs if self.measured is None else inputs - self.measured

    def save_own_variables(self, store):
        store["measured"] = self.measured

    def load_own_variables(self, store):
        self.measured = np.asarray(store["measured"])


class Worded(layers.Layer):
    """Multiplies by a number that it keeps in a file."""

    factor = 1.0

    def call(self, inputs):
        return inputs * self.factor

    def save_assets(self, path):
        with open(f"{path}/factor.txt", "w", encoding="utf-8") as file:
            file.write(str(self.factor))

    def load_assets(self, path):
        with open(f"{path}/factor.txt", encoding="utf-8") as file:
            self.factor = float(file.read())


@pytest.mark.parametrize("nested", [False, True])
def test_hooks_of_ones_own(nested):
    centred, worded = Centred(), Worded()
    centred.adapt([[3.0] * 4, [5.0] * 4])
    worded.factor = 7.0
    inputs = keras.Input((4,))
    h = worded(centred(inputs))
    if nested:
        h = keras.Model(inputs, h)(inputs)
    dense = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, activation="relu")(h)))
    wrapped = resrep_keras.wrap(dense)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    assert difference(dense, wrapped, x) < 1e-6
    (copy,) = (layer for layer in wrapped.layers if isinstance(layer, Worded))
    assert copy.factor == 7.0 and copy is not worded


# --- flags and seeds ------------------------------------------------------------------------------


def trained(model):
    """Names of trained variables, those of compactors left out."""
    paths = ("/".join(v.path.split("/")[-2:]) for v in model.trainable_variables)
    return sorted(path for path in paths if "_compactor/" not in path)


def backbone():
    inside = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(8, activation="relu", name="a"),
            layers.Dense(8, activation="relu", name="b"),
        ],
        name="backbone",
    )
    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dense(2, name="c")(inside(inputs))), inside


def test_flags_of_single_variables():
    dense, _ = backbone()
    dense.get_layer("c").bias.trainable = False
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
    assert trained(wrapped) == trained(dense)
    assert "c/kernel" in trained(wrapped) and "c/bias" not in trained(wrapped)
    slim = resrep_keras.MagnitudePruning(0.3).prune(dense)
    assert trained(slim) == trained(dense)


def test_layers_unfrozen_inside_a_frozen_model():
    dense, inside = backbone()
    inside.trainable = False
    inside.get_layer("b").trainable = True
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
    assert trained(wrapped) == trained(dense) == ["b/bias", "b/kernel", "c/bias", "c/kernel"]


def test_a_model_that_is_frozen_as_a_whole_trains_nothing_of_its_own():
    dense, _ = backbone()
    dense.trainable = False
    dense.get_layer("c").trainable = True  # which Keras does not train, either
    copy = resrep_keras.surgery.rebuild.rebuild(recording_of(dense))
    assert not copy.trainable
    assert trained(copy) == trained(dense) == []
    copy.trainable = dense.trainable = True
    assert trained(copy) == trained(dense) != []


def test_what_was_set_on_variables_by_hand():
    dense, _ = backbone()
    dense.get_layer("c").kernel.regularizer = keras.regularizers.L2(0.5)
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
    kernel = ops.convert_to_numpy(dense.get_layer("c").kernel)
    assert float(sum(wrapped.losses)) == pytest.approx(0.5 * (kernel**2).sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["dropout", "augmentation"])
def test_random_layers_draw_the_same(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    h = layers.GaussianNoise(0.5)(inputs) if name == "augmentation" else inputs
    h = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(h))
    h = layers.Dropout(0.5)(h)
    dense = keras.Model(inputs, layers.Dense(2)(h))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    values(dense, x, training=True)  # the seeds have moved on
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
    np.testing.assert_allclose(
        values(wrapped, x, training=True), values(dense, x, training=True), rtol=1e-5, atol=1e-6
    )
