"""ResRep on the JAX backend with Keras's DataParallel: each device takes a part of the batch.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python examples/distributed/jax_data_parallel.py

The flag makes two virtual devices of one CPU; leave it away on a machine with GPUs or TPUs. Batch
statistics are those of the whole batch, since JAX divides one computation among the devices.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import common
import keras
import run_flags
from absl import app, flags

import resrep_keras

FLAGS = flags.FLAGS
run_flags.count("epochs", 20, "Epochs of training while pruning.")
run_flags.count("batch_size", 32, "Examples in a step, for each device.")
run_flags.rate("learning_rate", 1e-3, "Learning rate for one device; multiplied by devices.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("limit", None, "Use only so many training images.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


def main(_):
    # Before the model is made: it says where variables are put.
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    devices = len(keras.distribution.list_devices())
    keras.utils.set_random_seed(FLAGS.seed)
    (x, y), (test_x, test_y) = common.load_digits(FLAGS.limit)
    batch_size = FLAGS.batch_size * devices
    common.check_batches(len(x), batch_size)
    whole = len(x) - len(x) % batch_size  # every batch must divide by the devices
    model = run_flags.wrapped(common.make_dense(), resrep_keras.ResRep(FLAGS.target_reduction))
    model.compile(
        optimizer=keras.optimizers.Adam(FLAGS.learning_rate * devices),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x[:whole], y[:whole], batch_size=batch_size, epochs=FLAGS.epochs, verbose=2)

    slim = resrep_keras.finalize(model)
    outputs = keras.ops.convert_to_numpy(slim(test_x))
    accuracy = (outputs.argmax(-1) == test_y).mean()
    print(
        f"{devices} devices: {slim.certificate.macs_left:.3f} of the MACs left, "
        f"accuracy {accuracy:.3f}"
    )


if __name__ == "__main__":
    app.run(main)
