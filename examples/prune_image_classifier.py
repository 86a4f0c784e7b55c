"""Prune an image classifier on any tfds data set, or on a folder of MNIST-style idx files.

    python examples/prune_image_classifier.py --dataset=cifar10 --model=resnet56
    python examples/prune_image_classifier.py --data_dir=/path/to/idx_files --distill

Started again with the same flags, it goes on where it was stopped; other flags want an
`--output_dir` of their own.
"""

import itertools
import pathlib

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import nets
import numpy as np
import run_flags
from absl import app, flags

import resrep_keras

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, datasets.HELP)
flags.DEFINE_string("data_dir", None, "A folder of idx files, or where tfds keeps its data.")
flags.DEFINE_enum("model", "resnet20", sorted(nets.NETS), "Which net to prune.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("dense_epochs", 20, "Epochs of dense training.")
run_flags.count("epochs", 30, "Epochs of training while pruning.")
run_flags.count("batch_size", 128, "Examples in a step.")
run_flags.count("limit", None, "Use only so many training images.")
flags.DEFINE_string("optimizer", "sgd", "'sgd' (momentum, cosine rate) or any Keras optimizer.")
flags.DEFINE_string("output_dir", "output/classifier", "Where models and checkpoints go.")
run_flags.whole("seed", 0, "Seed of weights and data order.")
flags.DEFINE_bool("distill", False, "Whether pruning learns from the dense net, too.")


def make_optimizer(total_steps):
    if FLAGS.optimizer == "sgd":
        rate = keras.optimizers.schedules.CosineDecay(0.05, max(1, total_steps))
        return keras.optimizers.SGD(rate, momentum=0.9)
    return keras.optimizers.get(FLAGS.optimizer)


def is_optimizer(name):
    try:
        return keras.optimizers.get(name) is not None
    except ValueError:
        return False


run_flags.within("optimizer", is_optimizer, "the name of a Keras optimizer")


def batches(x, y, first_epoch):
    """Shuffled batches for ever; the order depends on nothing but the epoch."""
    for epoch in itertools.count(first_epoch):
        order = np.random.default_rng([FLAGS.seed, epoch]).permutation(len(x))
        for start in range(0, len(x), FLAGS.batch_size):
            part = order[start : start + FLAGS.batch_size]
            yield x[part], y[part]


def train(model, data, epochs, folder):
    """Fit with a backup in `folder`, from which an interrupted run goes on as if it were not."""
    (x, y), test = data
    steps = -(-len(x) // FLAGS.batch_size)
    model.compile(
        optimizer=make_optimizer(epochs * steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # The backup stays until the finished model is written.
    backup = resrep_keras.Backup(folder, delete_checkpoint=False)
    model.fit(
        batches(x, y, backup.epoch),
        steps_per_epoch=steps,
        shuffle=False,
        initial_epoch=backup.epoch,
        epochs=epochs,
        validation_data=test,
        callbacks=[backup],
    )


def main(_):
    keras.utils.set_random_seed(FLAGS.seed)
    folder = pathlib.Path(FLAGS.output_dir)
    (x, y), test = datasets.load(FLAGS.dataset, FLAGS.data_dir)
    net = nets.NETS[FLAGS.model](x.shape[1:], int(y.max()) + 1)
    method = resrep_keras.ResRep(FLAGS.target_reduction)
    run_flags.wrapped(net, method)  # fails now, if it does
    run_flags.keep(folder)
    data = (x[: FLAGS.limit], y[: FLAGS.limit]), test

    dense_path = folder / "dense.keras"
    if dense_path.exists():
        dense = keras.models.load_model(dense_path)
    else:
        dense = net
        train(dense, data, FLAGS.dense_epochs, folder / "backup_dense")
        resrep_keras.export(dense, dense_path)

    slim_path = folder / "slim.keras"
    if slim_path.exists():
        slim = keras.models.load_model(slim_path)
    else:
        model = resrep_keras.wrap(dense, method, teacher=dense if FLAGS.distill else None)
        train(model, data, FLAGS.epochs, folder / "backup_pruning")
        slim = resrep_keras.finalize(model)
        resrep_keras.export(slim, folder / "slim.tflite")
        resrep_keras.export(slim, slim_path)

    table = resrep_keras.report(dense, slim, test_data=test)
    table.to_json(folder / "report.json")
    print(f"\n{table}\n\nModels and report.json are in {folder.resolve()}")


if __name__ == "__main__":
    app.run(main)
