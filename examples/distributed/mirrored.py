"""ResRep on the devices of one machine: MirroredStrategy with `fit`.

    python examples/distributed/mirrored.py

It takes all GPUs; without a GPU, `--replicas` logical CPUs. All that differs from one device is the
scope in which the model is made and compiled.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import common
import keras
import run_flags
import tensorflow as tf
from absl import app, flags

import resrep_keras

FLAGS = flags.FLAGS
run_flags.count("replicas", 2, "Logical CPUs where there is no GPU.")
run_flags.count("epochs", 20, "Epochs of training while pruning.")
run_flags.count("batch_size", 32, "Examples in a step, for each replica.")
run_flags.rate("learning_rate", 1e-3, "Learning rate for one replica; multiplied by replicas.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("limit", None, "Use only so many training images.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


def make_strategy():
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * FLAGS.replicas
    )
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(FLAGS.replicas)])


def main(_):
    strategy = make_strategy()
    keras.utils.set_random_seed(FLAGS.seed)
    (x, y), (test_x, test_y) = common.load_digits(FLAGS.limit)
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        dense = common.make_dense(synchronized=True)
        model = run_flags.wrapped(dense, resrep_keras.ResRep(FLAGS.target_reduction))
        model.compile(
            optimizer=keras.optimizers.Adam(FLAGS.learning_rate * replicas),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    model.fit(x, y, batch_size=FLAGS.batch_size * replicas, epochs=FLAGS.epochs, verbose=2)

    slim = resrep_keras.finalize(model)  # outside of the scope: a model for one device
    accuracy = (slim.predict(test_x, verbose=0).argmax(-1) == test_y).mean()
    print(
        f"{replicas} replicas: {slim.certificate.macs_left:.3f} of the MACs left, "
        f"accuracy {accuracy:.3f}"
    )


if __name__ == "__main__":
    app.run(main)
