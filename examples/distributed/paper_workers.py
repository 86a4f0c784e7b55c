"""A stage of `reproduce_paper.py` on the workers of a `MultiWorkerMirroredStrategy`."""

import dataclasses
import os

import common  # noqa: F401, which makes the examples of the folder above known
import coupled_decay
import paper_data
import tensorflow as tf
import worker_loop

import resrep_keras
from resrep_keras.methods.wrapped import method_of


def check_environment(policy):
    """End the program in words where this is no worker, or cannot be one."""
    if "TF_CONFIG" not in os.environ:
        raise SystemExit(
            "--devices=workers expects TF_CONFIG, which names the machines; found none. "
            "docs/distributed.md shows one. For all GPUs of one machine use --devices=mirrored."
        )
    if policy == "mixed_float16":
        raise SystemExit(
            "--devices=workers scales no loss, which 16-bit floats need. Use "
            "--mixed_precision=mixed_bfloat16."
        )
    tf.get_logger().setLevel("WARNING")  # else a line for each collective


def own_batches(images, strategy, batch_size, seed, first_epoch=0, epochs=1):
    """`(dataset, steps)` of this worker: its share of the images, a batch for each replica."""
    replicas, workers = strategy.num_replicas_in_sync, worker_loop.workers(strategy)
    if batch_size % replicas:
        raise SystemExit(
            f"Expected --batch_size to divide by {replicas} replicas; got {batch_size}."
        )
    place = strategy.cluster_resolver.task_id
    share = dataclasses.replace(
        images, train=images.train.shard(workers, place), size=images.size // workers
    )
    batches, steps = paper_data.training_batches(
        share, batch_size // workers, seed + 1_000_003 * place, first_epoch, epochs
    )
    return batches.rebatch(batch_size // replicas), steps


def train(model, images, folder, epochs, batch_size, schedule, seed, strategy):
    """As `paper_training.train`, with a checkpoint in `folder`, which all workers see."""

    def batches_from(epoch):
        return own_batches(images, strategy, batch_size, seed, epoch, epochs)[0]

    _, steps = own_batches(images, strategy, batch_size, seed)
    pruned = method_of(model) is not None
    with strategy.scope():
        optimizer = coupled_decay.CoupledDecaySGD(schedule(epochs * steps))
        model.optimizer = model.method.optimizer(optimizer) if pruned else optimizer
        model.optimizer.build(model.trainable_variables)
    folder.mkdir(parents=True, exist_ok=True)
    replica_batch = batch_size // strategy.num_replicas_in_sync
    worker_loop.train(
        *(model, strategy, batches_from, replica_batch, epochs, steps),
        checkpoint=folder / "checkpoint.npz",
        pruning=resrep_keras.PruningCallback() if pruned else None,
    )
