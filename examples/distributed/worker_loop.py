"""A training loop for the workers of a `MultiWorkerMirroredStrategy`, with a checkpoint an epoch.

`model.fit` under that strategy fails inside of Keras (issue 20585).
"""

import common
import keras
import tensorflow as tf


def say(strategy, text):
    print(f"worker {strategy.cluster_resolver.task_id}: {text}", flush=True)


def is_chief(strategy):
    """Whether this process writes what all have in common."""
    return strategy.cluster_resolver.task_id == 0


def wait_for_all(strategy):
    """Return when every worker has come here."""
    strategy.gather(tf.constant([strategy.cluster_resolver.task_id]), axis=0)


def workers(strategy):
    """The number of workers."""
    return len(strategy.cluster_resolver.cluster_spec().as_dict()["worker"])


def make_step(model, optimizer, strategy, batch_size):
    """A step of all replicas, each of which takes `batch_size` examples."""
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)

    def on_replica(images, labels):
        with tf.GradientTape() as recording:
            losses = loss_of(labels, model(images, training=True))
            # The optimizers sum gradients over replicas: the mean is over the global batch.
            loss = tf.reduce_sum(losses) / (batch_size * strategy.num_replicas_in_sync)
        gradients = recording.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    @tf.function
    def step(images, labels):
        losses = strategy.run(on_replica, args=(images, labels))
        return strategy.reduce("SUM", losses, axis=None)

    return step


def check_same_start(strategy, begin):
    begins = strategy.gather(tf.constant([begin]), axis=0).numpy().tolist()
    if len(set(begins)) > 1:
        raise ValueError(
            f"The workers' checkpoints are at different epochs: {begins}. Expected one "
            "--output_dir that all of them see."
        )


def train(model, strategy, batches_from, batch_size, epochs, steps, checkpoint, pruning=None):
    """Train to the end, from the checkpoint where there is one.

    Args:
        model: A model made in the strategy's scope, with a built `optimizer`.
        strategy: The `MultiWorkerMirroredStrategy`.
        batches_from: Function of the first epoch; returns a `tf.data.Dataset` of this worker's
            batches, each for one replica.
        batch_size: Examples of a replica in a step.
        epochs: To train for in all.
        steps: Steps of each.
        checkpoint: Path of the file that the chief writes after each epoch.
        pruning: The `PruningCallback` of a wrapped model.
    """
    optimizer = model.optimizer
    state = [*model.variables, *optimizer.variables]
    begin = common.load_state(checkpoint, state).get("epochs", 0)
    check_same_start(strategy, begin)
    if begin >= epochs:
        return
    say(strategy, f"training from epoch {begin + 1}")
    batches = iter(strategy.distribute_datasets_from_function(lambda _: batches_from(begin)))
    step = make_step(model, optimizer, strategy, batch_size)
    callbacks = keras.callbacks.CallbackList(
        [pruning] if pruning else [], model=model, epochs=epochs, steps=steps
    )
    callbacks.on_train_begin()
    for epoch in range(begin, epochs):
        callbacks.on_epoch_begin(epoch)
        for number in range(steps):
            loss = step(*next(batches))
            callbacks.on_train_batch_end(number)
        callbacks.on_epoch_end(epoch)
        if is_chief(strategy):
            common.save_state(checkpoint, state, epochs=epoch + 1)
        left = f", MACs left {pruning.macs_left():.3f}" if pruning else ""
        say(strategy, f"epoch {epoch + 1}, loss {float(loss):.4f}{left}")
    callbacks.on_train_end()
