"""ResRep in a training loop of one's own: the same pieces by hand, without `fit`.

    python examples/custom_training_loop.py

`wrap` makes the model, `PenaltyOptimizer` the updates, and a `PruningCallback` in a Keras
`CallbackList` the selections.
"""

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import nets
import run_flags
import tensorflow as tf
from absl import app, flags

import resrep_keras

FLAGS = flags.FLAGS
run_flags.count("epochs", 20, "Epochs of training while pruning.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


def main(_):
    keras.utils.set_random_seed(FLAGS.seed)
    (x, y), (test_x, test_y) = datasets.load_digits()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(32)

    dense = nets.small_resnet((8, 8, 1), num_classes=10, width=24)
    method = resrep_keras.ResRep(target_reduction=FLAGS.target_reduction)
    model = run_flags.wrapped(dense, method)
    model.optimizer = optimizer = method.optimizer(keras.optimizers.Adam(2e-3))
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as recording:
            loss = loss_of(labels, model(images, training=True))
        gradients = recording.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    pruning = resrep_keras.PruningCallback()
    callbacks = keras.callbacks.CallbackList(
        [pruning], model=model, epochs=FLAGS.epochs, steps=len(batches)
    )
    callbacks.on_train_begin()
    for epoch in range(FLAGS.epochs):
        callbacks.on_epoch_begin(epoch)
        for number, (images, labels) in enumerate(batches):
            loss = step(images, labels)
            callbacks.on_train_batch_end(number)
        callbacks.on_epoch_end(epoch)
        print(f"epoch {epoch + 1}: loss {float(loss):.3f}, MACs left {pruning.macs_left():.3f}")
    callbacks.on_train_end()

    slim = resrep_keras.finalize(model)
    accuracy = (slim.predict(test_x, verbose=0).argmax(-1) == test_y).mean()
    print(f"slim model: {slim.certificate.macs_left:.3f} of the MACs, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    app.run(main)
