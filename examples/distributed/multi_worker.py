"""ResRep in several processes: MultiWorkerMirroredStrategy, a training loop, restart after a crash.

    python examples/distributed/multi_worker.py --workers=2

starts two workers on this machine. If one dies, all of them are started again from the last
checkpoint. On several machines, start `--workers=0` on each, with TF_CONFIG set there and an
`--output_dir` that all of them see; what supervises the machines then starts all of them again.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pathlib

import common
import keras
import numpy as np
import run_flags
import supervisor
import tensorflow as tf
import worker_loop
from absl import app, flags

import resrep_keras

FLAGS = flags.FLAGS
run_flags.whole("workers", 2, "Processes to start; 0 to be one worker, as TF_CONFIG says.")
run_flags.whole("restarts", 3, "How many crashes to go on after.")
run_flags.count("epochs", 20, "Epochs of training while pruning.")
run_flags.count("batch_size", 16, "Examples in a step, for each replica.")
run_flags.rate("learning_rate", 1e-3, "Learning rate for one replica; multiplied by replicas.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("limit", None, "Use only so many training images.")
flags.DEFINE_string("output_dir", "output/multi_worker", "Where checkpoint and slim model go.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


def worker_rows(size, strategy, epochs):
    """Row numbers of this worker's batches, the same whether the run was interrupted or not."""
    resolver = strategy.cluster_resolver
    workers = worker_loop.workers(strategy)
    replicas = strategy.num_replicas_in_sync
    steps = size // (FLAGS.batch_size * replicas)
    rows = []
    for epoch in epochs:
        order = np.random.default_rng((FLAGS.seed, epoch)).permutation(size)
        order = order[: steps * replicas * FLAGS.batch_size]
        shares = order.reshape(steps, workers, replicas // workers, FLAGS.batch_size)
        rows.append(shares[:, resolver.task_id].reshape(-1, FLAGS.batch_size))
    return np.concatenate(rows)


def make_batches(x, y, rows):
    """One batch for each replica and step, from this worker's rows alone."""
    rows = tf.data.Dataset.from_tensor_slices(rows)
    return rows.map(lambda batch: (tf.gather(x, batch), tf.gather(y, batch))).prefetch(1)


def train(model, data, strategy, checkpoint):
    """Train to the end, from the checkpoint where there is one."""
    steps = len(data[0]) // (FLAGS.batch_size * strategy.num_replicas_in_sync)

    def batches_from(epoch):
        return make_batches(*data, worker_rows(len(data[0]), strategy, range(epoch, FLAGS.epochs)))

    worker_loop.train(
        *(model, strategy, batches_from, FLAGS.batch_size, FLAGS.epochs, steps, checkpoint),
        pruning=resrep_keras.PruningCallback(),
    )


def work(folder):
    """What each worker does; all of them make the same selections from the same weights."""
    tf.get_logger().setLevel("WARNING")  # else a line for each collective
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id
    keras.utils.set_random_seed(FLAGS.seed)
    data, (test_x, test_y) = common.load_digits(FLAGS.limit)
    common.check_batches(len(data[0]), FLAGS.batch_size * strategy.num_replicas_in_sync)
    method = resrep_keras.ResRep(FLAGS.target_reduction)
    rate = FLAGS.learning_rate * strategy.num_replicas_in_sync
    with strategy.scope():
        model = run_flags.wrapped(common.make_dense(synchronized=True), method)
        model.optimizer = method.optimizer(keras.optimizers.Adam(rate))
        model.optimizer.build(model.trainable_variables)
    train(model, data, strategy, folder / "checkpoint.npz")
    common.save_state(
        folder / f"worker_{worker}.npz", [*model.variables, *model.optimizer.variables]
    )
    if worker_loop.is_chief(strategy):
        slim = resrep_keras.finalize(model)
        resrep_keras.export(slim, folder / "slim.keras")
        accuracy = (keras.ops.convert_to_numpy(slim(test_x)).argmax(-1) == test_y).mean()
        left = slim.certificate.macs_left
        worker_loop.say(
            strategy, f"slim model with {left:.3f} of the MACs, accuracy {accuracy:.3f}"
        )
    worker_loop.wait_for_all(strategy)  # nobody leaves before the chief is done


def main(_):
    folder = pathlib.Path(FLAGS.output_dir)
    run_flags.keep(folder, but=("output_dir", "workers", "restarts"))
    if FLAGS.workers:  # what cannot end well is told before any is started
        data, _ = common.load_digits(FLAGS.limit)
        common.check_batches(len(data[0]), FLAGS.batch_size * FLAGS.workers)
        run_flags.wrapped(common.make_dense(), resrep_keras.ResRep(FLAGS.target_reduction))
        supervisor.supervise(FLAGS.workers, FLAGS.restarts)
    elif "TF_CONFIG" in os.environ:
        work(folder)
    else:
        raise SystemExit("--workers=0 expects TF_CONFIG, which names the workers; found none.")


if __name__ == "__main__":
    app.run(main)
