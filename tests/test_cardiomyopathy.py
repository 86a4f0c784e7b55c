"""The classifier of patients: its data, its nets, what is measured of it, and the whole way."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from tests import paths, zoo

tissue = paths.examples("tissue")
synthetic = paths.examples("synthetic_tissue")
nets = paths.examples("cardiomyopathy_nets")
metrics = paths.examples("patient_metrics")

SIZE, LENGTH = 40, 3


@pytest.fixture(scope="module")
def people():
    return synthetic.patients(60, SIZE, 4, seed=5)


# --- synthetic tissue -----------------------------------------------------------------------------


def cross_fitted_auc(features, labels, folds=5):
    """AUC of a ridge regression on standardised features, each fold judged by the others."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-9)
    scores = np.zeros(len(labels))
    for fold in range(folds):
        out = np.arange(len(labels)) % (2 * folds) // 2 == fold
        x, y = features[~out], 2 * labels[~out] - 1
        weights = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
        scores[out] = features[out] @ weights
    return metrics.auc(labels, scores)


def colours(tiles):
    """Everything that the colours of a patient tell, wherever the pixels lie."""
    pixels = tiles.reshape(-1, 3).astype(float)
    bins = [np.histogram(channel, 12, (0, 255), density=True)[0] for channel in pixels.T]
    return np.concatenate([pixels.mean(0), pixels.std(0), *bins])


def steps(tiles):
    """How often neighbours differ: something that the arrangement does change."""
    tiles = tiles.astype(float)
    return np.array([np.abs(np.diff(tiles, axis=axis)).mean() for axis in (1, 2)])


def test_colours_and_amounts_do_not_tell_the_classes():
    many = synthetic.patients(400, 24, 4)
    labels = np.array([person.label for person in many])
    chance = cross_fitted_auc(np.array([colours(p.tiles) for p in many]), labels)
    assert 0.41 < chance < 0.59  # three standard errors of 200 against 200 patients


def test_the_arrangement_tells_the_classes_on_tiles_that_are_said_to(people):
    labels = np.array([person.label for person in people])
    telling = np.array([steps(p.tiles[p.tells]) for p in people])
    assert cross_fitted_auc(telling, labels) > 0.9
    both = [person for person in people if not person.tells.all()]
    labels = np.array([person.label for person in both])
    others = np.array([steps(p.tiles[~p.tells]) for p in both])
    assert 0.25 < cross_fitted_auc(others, labels) < 0.75


@pytest.mark.parametrize("arrangement", ["PATCHY", "INTERSTITIAL", "SPOTS"])
def test_every_tile_has_exactly_the_amounts_that_are_asked_for(arrangement):
    plain = np.array([[10.0] * 3, [80.0] * 3, [150.0] * 3, [220.0] * 3])  # grain: sd 7
    made = synthetic.tile(
        np.random.default_rng(0), SIZE, getattr(synthetic, arrangement), 0.25, 0.15, 0.05, plain
    )
    kinds = np.abs(made.astype(float).mean(-1)[..., None] - plain[:, 0]).argmin(-1)
    counts = np.bincount(kinds.ravel(), minlength=4)
    assert counts.tolist() == [880, 240, 400, 80]  # 55, 15, 25 and 5 % of 40 x 40


def test_patients_are_drawn_by_seed_and_number_alone():
    first, second = synthetic.patients(4, SIZE, seed=1), synthetic.patients(6, SIZE, seed=1)
    for one, other in zip(first, second):
        np.testing.assert_array_equal(one.tiles, other.tiles)
    assert [p.label for p in second] == [0, 1, 0, 1, 0, 1]
    assert all(4 <= len(p.tiles) <= 6 and 1 <= p.tells.sum() <= 3 for p in second)
    assert (synthetic.patient(0, 0, SIZE, seed=2).tiles[0] != first[0].tiles[0]).any()
    assert all("synthetic" in name for name in (*synthetic.CLASSES, first[0].name))


# --- folders, splits and batches ------------------------------------------------------------------


def test_a_folder_of_tiles_is_read_as_it_was_written(tmp_path, people):
    synthetic.write_folder(people[:6], tmp_path)
    assert all("synthetic" in path.name for path in tmp_path.rglob("*.png"))
    (tmp_path / synthetic.CLASSES[0] / people[0].name / "notes.txt").write_text("no tile")
    read, classes = tissue.read_folder(tmp_path, synthetic.CLASSES[1])
    assert classes == list(synthetic.CLASSES)
    by_name = {patient.name: patient for patient in read}
    for person in people[:6]:
        found = by_name[person.name]
        assert found.label == person.label and found.tells is None
        data = tissue.Batches([found], SIZE, 6, 1, cache=9)
        (inputs, labels) = data[0]
        count = len(person.tiles)
        np.testing.assert_array_equal(inputs["tiles"][0, :count], person.tiles)
        assert inputs["present"][0].tolist() == [True] * count + [False] * (6 - count)
        assert labels.tolist() == [[person.label]]


def test_folders_that_are_no_data_are_refused(tmp_path, people):
    synthetic.write_folder(people[:2], tmp_path)
    with pytest.raises(ValueError, match=r"two folders of classes in .*one of them 'other'"):
        tissue.read_folder(tmp_path, "other")
    (tmp_path / synthetic.CLASSES[0] / people[1].name).mkdir()
    with pytest.raises(ValueError, match=r"each patient of .* in one class; got no tile for"):
        tissue.read_folder(tmp_path, synthetic.CLASSES[1])
    synthetic.write_folder([tissue.Patient(people[1].name, 0, people[1].tiles)], tmp_path)
    with pytest.raises(ValueError, match=r"got \['synthetic_patient_0001'\] in both classes"):
        tissue.read_folder(tmp_path, synthetic.CLASSES[1])
    (tmp_path / "third").mkdir()
    with pytest.raises(ValueError, match="two folders of classes"):
        tissue.read_folder(tmp_path, "third")


def test_patients_are_in_one_part_and_parts_have_both_classes(people):
    parts = tissue.split(people, (0.6, 0.15, 0.25), seed=3)
    names = [{person.name for person in part} for part in parts]
    assert [len(part) for part in parts] == [36, 8, 16]
    assert set.union(*names) == {p.name for p in people} and sum(map(len, names)) == len(people)
    assert [sum(p.label for p in part) for part in parts] == [18, 4, 8]
    assert names != [{p.name for p in part} for part in tissue.split(people, (0.6, 0.15, 0.25), 4)]
    with pytest.raises(ValueError, match="patients of both classes in each of 3 parts"):
        tissue.split(people[:3], (0.6, 0.2, 0.2))


def test_class_weights_make_both_classes_count_alike():
    patients = [tissue.Patient("", label, ()) for label in (0, 0, 0, 1)]
    weights = tissue.class_weights(patients)
    assert weights == {0: 4 / 6, 1: 2.0} and 3 * weights[0] == weights[1]


def test_padding_repeats_the_patients_own_tiles(people):
    person = tissue.Patient("p", 1, people[0].tiles[:2])
    inputs, _ = tissue.Batches([person], SIZE, 5)[0]
    for place in range(5):
        np.testing.assert_array_equal(inputs["tiles"][0, place], person.tiles[place % 2])
    assert inputs["present"].tolist() == [[True, True, False, False, False]]
    many = tissue.Patient("p", 1, np.zeros((9, SIZE, SIZE, 3), "uint8"))
    assert tissue.Batches([many], SIZE, 3).chosen(many).tolist() == [0, 4, 8]


def test_what_is_drawn_depends_on_seed_and_epoch_alone(people):
    def epochs(first, count):
        data = tissue.Batches(people[:8], SIZE, LENGTH, 4, augment=True, seed=1, epoch=first)
        for _ in range(count):
            yield np.concatenate([data[i][0]["tiles"] for i in range(len(data))])
            data.on_epoch_end()

    whole, rest = list(epochs(0, 3)), list(epochs(2, 1))
    np.testing.assert_array_equal(whole[2], rest[0])
    assert (whole[0] != whole[1]).any()


def test_staining_moves_colours_and_turning_moves_pixels_only(people):
    generator = np.random.default_rng(0)
    tiles = people[0].tiles.astype("float32")
    turned = tissue.turned(tiles, generator)
    for one, other in zip(tiles, turned):
        np.testing.assert_array_equal(*(np.sort(x.reshape(-1, 3), axis=0) for x in (one, other)))
    assert (turned != tiles).any()
    same = tissue.stained(tiles, generator, strength=0)
    np.testing.assert_allclose(same, tiles, atol=0.05)
    changed = tissue.stained(tiles, generator)
    assert 1 < np.abs(changed - tiles).mean() < 40 and changed.min() >= 0 and changed.max() <= 255


# --- measures -------------------------------------------------------------------------------------


def test_measures_by_hand():
    labels, scores = [1, 1, 1, 0, 0], [2.0, 1.0, -1.0, 1.0, -3.0]
    # Of six pairs, positive before negative: 2 of 2; 1 before -3, level with 1; -1 before -3.
    assert metrics.auc(labels, scores) == (2 + 1.5 + 1) / 6
    assert metrics.sensitivity(labels, scores) == 2 / 3
    assert metrics.specificity(labels, scores) == 1 / 2
    table = metrics.confusion(labels, np.array(scores) > 0)
    np.testing.assert_array_equal(table, [[1, 1], [1, 2]])


def test_intervals_hold_the_value_and_narrow_with_more_patients():
    generator = np.random.default_rng(0)
    widths = []
    for count in (40, 640):
        labels = np.arange(count) % 2
        found = metrics.measured(labels, labels + generator.normal(0, 1, count), draws=300)
        assert all(x.low <= x.value <= x.high for x in found.values())
        widths.append(found["auc"].high - found["auc"].low)
    assert 2 < widths[0] / widths[1] < 8  # about the root of 16
    certain = metrics.measured([0, 1], [-1.0, 1.0], draws=20)
    assert str(certain["auc"]) == "1.000 (1.000 to 1.000)"


def test_gain_is_attention_in_times_of_equal_shares():
    attention = np.array([[0.5, 0.25, 0.25, 0.0], [0.25] * 4, [1.0, 0, 0, 0]])
    tells = [[True, False, False], [False, True, True, False], [True]]
    present = np.array([[1, 1, 1, 0], [1] * 4, [1, 0, 0, 0]], bool)
    # The third has no tile that does not tell.
    assert metrics.gain(attention, tells, present) == (0.5 / (1 / 3) + 0.5 / (2 / 4)) / 2


def test_pictures_say_what_they_show(people):
    rows = [(people[0], people[0].tiles[:2], np.array([0.75, 0.25]), 1.1)]
    figure = metrics.attention_figure(rows, synthetic.CLASSES, "SYNTHETIC tiles")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("decided: synthetic_patchy" in x and "= 0.75" in x for x in texts)
    assert [x for axes in figure.axes if (x := axes.get_xlabel())] == ["75 %", "25 %"]
    table = metrics.confusion_figure(np.array([[5, 1], [2, 7]]), synthetic.CLASSES, "synthetic")
    (axes,) = table.axes
    assert [text.get_text() for text in axes.texts] == ["5", "1", "2", "7"]
    assert "patients" in axes.get_xlabel()


# --- nets -----------------------------------------------------------------------------------------


def one_block():
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, nets.mixed(nets.conv_bn(inputs, 5, 3, 2), 4), name="one_block")


def small(pooling="attention", backbone=None):
    return nets.classifier(backbone or one_block(), LENGTH, pooling, units=4)


def inputs_of(people):
    return tissue.Batches(people, SIZE, LENGTH, len(people))[0][0]


@pytest.mark.parametrize("pooling", nets.POOLINGS)
def test_what_is_padded_decides_nothing(people, pooling):
    model = small(pooling)
    zoo.randomise(model)
    inputs = inputs_of([tissue.Patient("p", 1, p.tiles[:2]) for p in people[:2]])
    before = model.predict(inputs, verbose=0)
    assert not inputs["present"][:, 2].any()
    inputs["tiles"][:, 2] = 0
    np.testing.assert_allclose(model.predict(inputs, verbose=0), before, rtol=1e-4, atol=1e-5)
    inputs["tiles"][:, 1] = 0
    assert np.abs(model.predict(inputs, verbose=0) - before).max() > 1e-3


def test_macs_are_those_of_all_tiles():
    backbone = nets.slim_inception(SIZE, 4)
    model = small("average", backbone)
    channels = backbone.output_shape[-1]
    expected = LENGTH * resrep_keras.count_macs(backbone) + channels * 64 + 64
    assert resrep_keras.count_macs(model) == expected


def test_two_stages_freeze_what_they_say():
    model = small(backbone=nets.slim_inception(SIZE, 4))
    backbone = model.get_layer("slim_inception")
    nets.freeze(model)
    assert not backbone.trainable_variables and model.trainable_variables
    third = [x.name for x in backbone.layers if isinstance(x, layers.Concatenate)][-2]
    nets.freeze(model, above=third)
    kinds = {type(x) for x in backbone.layers if x.trainable_variables}
    assert kinds == {layers.Conv2D}  # no batch normalisation
    trained = sum(bool(x.trainable_variables) for x in backbone.layers)
    assert 0 < trained < sum(isinstance(x, layers.Conv2D) for x in backbone.layers)
    with pytest.raises(ValueError, match="Expected a layer of 'slim_inception'; got 'mixed9'"):
        nets.freeze(model, above="mixed9")
    nets.unfreeze(model)
    assert any(
        isinstance(x, layers.BatchNormalization) and x.trainable_variables for x in backbone.layers
    )


def test_every_channel_but_the_decision_may_go():
    explanation = resrep_keras.explain(small(backbone=nets.slim_inception(SIZE, 4)))
    pinned = [row.layer for row in explanation.rows if row.status != "prunable"]
    assert pinned == ["decision"]


def test_pruning_keeps_attention_over_tiles(people):
    model = zoo.randomise(small())
    slim = resrep_keras.MagnitudePruning(0.5).prune(model)
    assert resrep_keras.count_macs(slim) <= resrep_keras.count_macs(model) / 2
    inputs = inputs_of(people[:4])
    attention = nets.attention_of(slim).predict(inputs, verbose=0)
    np.testing.assert_allclose(attention.sum(-1), np.ones(4), rtol=1e-5)
    assert (attention[~inputs["present"]] == 0).all()


@pytest.mark.slow  # its small form is a command of the example
def test_a_run_of_resrep_ends_at_its_target(people):
    model = resrep_keras.wrap(small(), resrep_keras.ResRep(0.5))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    data = tissue.Batches(people[:16], SIZE, LENGTH, 4, augment=True)
    model.fit(data, epochs=5, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    assert slim.certificate.max_relative < 1e-4 and slim.certificate.macs_left <= 0.5


@pytest.mark.tensorflow_only
def test_the_tflite_file_decides_alike_without_operations_of_tensorflow(people, tmp_path):
    from resrep_keras.tflite.run import TFLiteRunner

    model = zoo.randomise(small())
    slim = resrep_keras.MagnitudePruning(0.5).prune(model)
    resrep_keras.export(slim, tmp_path / "slim.tflite")
    content = (tmp_path / "slim.tflite").read_bytes()
    assert b"Flex" not in content  # what SELECT_TF_OPS adds is called FlexSomething
    runner = TFLiteRunner(content)
    few = [tissue.Patient("p", 1, p.tiles[: 1 + i % 3]) for i, p in enumerate(people[:6])]
    inputs = inputs_of(few)
    expected = slim.predict(inputs, verbose=0)[:, 0]
    for row, score in enumerate(expected):
        runner.set_inputs({key: value[row : row + 1] for key, value in inputs.items()})
        runner.invoke()
        (actual,) = runner.outputs().values()
        np.testing.assert_allclose(actual.item(), score, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_inception_v3_is_built_run_and_pruned():
    model = nets.classifier(nets.inception_v3(75), 2)
    rows = resrep_keras.explain(model).rows
    assert [row.layer for row in rows if row.status != "prunable"] == ["decision"]
    # The convolutions of Inception-V3 (94) and two tiles of them, counted without the head.
    backbone = model.get_layer("inception_v3")
    assert sum(isinstance(x, layers.Conv2D) for x in backbone.layers) == 94
    inputs = {
        "tiles": np.random.default_rng(0).uniform(0, 255, (2, 2, 75, 75, 3)).astype("float32"),
        "present": np.array([[True, True], [True, False]]),
    }
    scores = ops.convert_to_numpy(model(inputs))
    assert scores.shape == (2, 1) and np.isfinite(scores).all()
    slim = resrep_keras.MagnitudePruning(0.5).prune(model)
    assert resrep_keras.count_macs(slim) <= resrep_keras.count_macs(model) / 2
    attention = nets.attention_of(slim).predict(inputs, verbose=0)
    np.testing.assert_allclose(attention.sum(-1), [1, 1], rtol=1e-5)
    assert attention[1, 1] == 0
