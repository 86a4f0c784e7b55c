"""Tell two kinds of heart muscle disease apart from tiles of tissue, then prune the classifier.

After Dubey et al., "Self-attention based BiLSTM-CNN classifier for the prediction of ischemic and
non-ischemic cardiomyopathy" (2019): a backbone reads each tile, a bidirectional LSTM the tiles of
a patient, and a self-attention decides which of them count. Not a reproduction, and no medical
device: without `--data_dir` it runs on synthetic tiles, which show no patient.

    python examples/cardiomyopathy.py
    python examples/cardiomyopathy.py --data_dir=/path/to/tiles --positive=ischemic \\
        --backbone=inception_v3 --weights=imagenet --image_size=299 --tiles=16 --batch_size=4

A folder of data has two folders of classes, in each one folder a patient, in each its tiles. With
pretrained weights the backbone is frozen first; then its last blocks train at a tenth of the rate.
Started again with the same flags, it goes on where it was stopped.
"""

import json
import pathlib

import quiet_start  # noqa: F401

# isort: split
import cardiomyopathy_nets as nets
import keras
import patient_metrics
import run_flags
import synthetic_tissue
import tissue
from absl import app, flags

import resrep_keras
from resrep_keras.common.files import write, write_text

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "A folder of tiles: class/patient/tile.png.")
flags.DEFINE_string("positive", None, "The class to find, with --data_dir: a folder's name.")
run_flags.count("patients", 240, "Synthetic patients, where there is no --data_dir.")
flags.DEFINE_enum("backbone", "slim", ["slim", "inception_v3"], "What reads a tile.")
flags.DEFINE_enum("weights", "none", ["none", "imagenet"], "Those of inception_v3 to begin with.")
run_flags.count("blocks", 3, "Mixed blocks of the slim backbone.")
run_flags.count("image_size", 80, "Height and width of a tile in pixels.")
run_flags.count("tiles", 6, "Tiles of a patient that are seen at once; others the next epoch.")
run_flags.count("units", 32, "Units of the LSTM in each direction.")
run_flags.count("heads", 2, "Heads of the attention.")
run_flags.count("batch_size", 8, "Patients in a step.")
run_flags.rate("rate", 1e-3, "Learning rate of Adam, which falls to 0 along a cosine.")
run_flags.count("frozen_epochs", 5, "Epochs with a frozen backbone, if it is pretrained.")
flags.DEFINE_string("unfreeze_from", "mixed8", "First layer that trains in the second stage.")
run_flags.count("epochs", 25, "Epochs of training, or of its second stage.")
run_flags.count("prune_epochs", 25, "Epochs of training while pruning.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("cache_mb", 1000, "Memory for tiles that were read.")
flags.DEFINE_string("output_dir", "output/cardiomyopathy", "Where models and pictures go.")
run_flags.whole("seed", 0, "Seed of the split, weights, data order and synthetic tiles.")


@flags.multi_flags_validator(["data_dir", "positive"], "--data_dir and --positive come together")
def _both_or_none(values):
    return (values["data_dir"] is None) == (values["positive"] is None)


@flags.multi_flags_validator(["backbone", "weights"], "only --backbone=inception_v3 has weights")
def _has_weights(values):
    return values["backbone"] == "inception_v3" or values["weights"] == "none"


SHARES = (0.6, 0.15, 0.25)  # of the patients: training, validation, test


def read():
    """`((training, validation, test) patients, names of the classes)`."""
    if FLAGS.data_dir is None:
        patients = synthetic_tissue.patients(
            FLAGS.patients, FLAGS.image_size, FLAGS.tiles, FLAGS.seed
        )
        classes = synthetic_tissue.CLASSES
    else:
        patients, classes = tissue.read_folder(FLAGS.data_dir, FLAGS.positive)
    parts = tissue.split(patients, SHARES, FLAGS.seed)
    names = ("training", "validation", "test")
    for name, part in zip(names, parts):
        tiles = sum(len(patient.tiles) for patient in part)
        positive = sum(patient.label for patient in part)
        print(f"{name}: {len(part)} patients, {positive} of them {classes[1]}; {tiles} tiles")
    return parts, classes


def batches(patients, augment=False, epoch=0):
    cache = FLAGS.cache_mb * 2**20 // (3 * FLAGS.image_size**2)
    return tissue.Batches(
        patients, FLAGS.image_size, FLAGS.tiles, FLAGS.batch_size, augment, FLAGS.seed, cache, epoch
    )


def fit(model, parts, epochs, rate, folder):
    """Fit with a backup in `folder`, from which an interrupted run goes on."""
    training, validation, _ = parts
    backup = resrep_keras.Backup(folder, delete_checkpoint=False)
    data = batches(training, augment=True, epoch=backup.epoch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * len(data))
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.AUC(from_logits=True, name="auc")],
    )
    model.fit(
        data,
        epochs=epochs,
        initial_epoch=backup.epoch,
        validation_data=batches(validation),
        class_weight=tissue.class_weights(training),
        callbacks=[backup],
    )


def train(parts, folder):
    """A trained classifier, in two stages where its backbone is pretrained."""
    pretrained = FLAGS.weights != "none"
    if FLAGS.backbone == "slim":
        backbone = nets.slim_inception(FLAGS.image_size, blocks=FLAGS.blocks)
    else:
        backbone = nets.inception_v3(FLAGS.image_size, FLAGS.weights if pretrained else None)
    model = nets.classifier(backbone, FLAGS.tiles, units=FLAGS.units, heads=FLAGS.heads)
    resrep_keras.wrap(model, resrep_keras.ResRep(FLAGS.target_reduction))  # fails now, if it does
    rate = FLAGS.rate
    if pretrained:
        nets.freeze(model)
        fit(model, parts, FLAGS.frozen_epochs, rate, folder / "backup_frozen")
        nets.freeze(model, above=FLAGS.unfreeze_from)
        rate /= 10
    fit(model, parts, FLAGS.epochs, rate, folder / "backup_dense")
    return model


def prune(dense, parts, folder):
    """The slim model: all layers train while it is pruned, the frozen ones too."""
    nets.unfreeze(dense)
    model = resrep_keras.wrap(dense, resrep_keras.ResRep(FLAGS.target_reduction))
    rate = FLAGS.rate if FLAGS.weights == "none" else FLAGS.rate / 10
    fit(model, parts, FLAGS.prune_epochs, rate, folder / "backup_pruning")
    return resrep_keras.finalize(model)


def kept(path, make):
    """The model that `make` returns, written to a path once."""
    if not path.exists():
        resrep_keras.export(make(), path)
    return keras.models.load_model(path)


def evaluate(model, patients, classes, name, folder):
    """Print and draw how well a model tells patients apart; what was measured, for JSON."""
    data = batches(patients)
    labels = [patient.label for patient in patients]
    scores = model.predict(data, verbose=0)[:, 0]
    measures = patient_metrics.measured(labels, scores)
    table = patient_metrics.confusion(labels, scores > 0)
    what = "synthetic tiles" if FLAGS.data_dir is None else FLAGS.data_dir
    figure = patient_metrics.confusion_figure(
        table, classes, f"{name} model, {len(labels)} test patients, {what}"
    )
    save(figure, folder / f"{prefix()}confusion_{name}.png")
    words = ", ".join(f"{key} {value}" for key, value in measures.items())
    print(f"{name}, {len(labels)} test patients ({what}): {words}")
    found = {key: vars(value) for key, value in measures.items()}
    return {**found, "confusion": table.tolist(), "macs": resrep_keras.count_macs(model)}


def draw_attention(model, patients, classes, folder, of_each=2):
    """A picture of the tiles of some patients of each class, and the attention on them."""
    shown = [p for label in (0, 1) for p in [x for x in patients if x.label == label][:of_each]]
    data = tissue.Batches(shown, FLAGS.image_size, FLAGS.tiles, len(shown))
    inputs, _ = data[0]
    scores = model.predict(inputs, verbose=0)[:, 0]
    attention = nets.attention_of(model).predict(inputs, verbose=0)
    rows = []
    for row, patient in enumerate(shown):
        there = inputs["present"][row]
        rows.append((patient, inputs["tiles"][row][there], attention[row][there], scores[row]))
    of = "SYNTHETIC tiles, no patient's tissue" if FLAGS.data_dir is None else FLAGS.data_dir
    title = f"Attention over the tiles of test patients ({of})"
    figure = patient_metrics.attention_figure(rows, classes, title)
    save(figure, folder / f"{prefix()}attention.png")


def prefix():
    return "synthetic_" if FLAGS.data_dir is None else ""


def save(figure, path):
    write(path, lambda fresh: figure.savefig(fresh, dpi=130, format="png"))


def main(_):
    keras.utils.set_random_seed(FLAGS.seed)
    folder = pathlib.Path(FLAGS.output_dir)
    parts, classes = read()
    run_flags.keep(folder, but=("output_dir", "cache_mb"))
    dense = kept(folder / "dense.keras", lambda: train(parts, folder))
    slim = kept(folder / "slim.keras", lambda: prune(dense, parts, folder))

    test = parts[-1]
    found = {
        name: evaluate(model, test, classes, name, folder)
        for name, model in (("dense", dense), ("slim", slim))
    }
    draw_attention(slim, test, classes, folder)
    if keras.backend.backend() == "tensorflow":
        resrep_keras.export(slim, folder / "slim.tflite")
        print(resrep_keras.report(dense, slim, leave_out=["latency"]))
    write_text(folder / f"{prefix()}results.json", json.dumps(found, indent=1) + "\n")
    of = "Synthetic tiles: nothing clinical follows. " if FLAGS.data_dir is None else ""
    print(f"{of}Models, pictures and results are in {folder.resolve()}")


if __name__ == "__main__":
    app.run(main)
