"""A training class of one's own, and how a wrapped model is trained on in a fresh process.

python -m tests.smoke.own_training FILE
"""

import sys

import keras


@keras.saving.register_keras_serializable("smoke")
class Doubled(keras.Model):
    """Trains on twice the loss, and counts the steps that it took."""

    steps = 0

    def compute_loss(self, *args, **kwargs):
        return 2 * super().compute_loss(*args, **kwargs)

    def train_step(self, *args):
        Doubled.steps += 1
        return super().train_step(*args)


def main(path):
    """Load a wrapped model in a fresh process, train it to the end and finalize it."""
    import numpy as np

    import resrep_keras

    model = keras.models.load_model(path)
    x = np.load(f"{path}.npz")
    np.testing.assert_allclose(model.predict(x["x"], verbose=0), x["outputs"], 1e-5, 1e-5)
    model.fit(x["x"], x["y"], batch_size=16, epochs=4, verbose=0)
    slim = resrep_keras.finalize(model, strict=True)
    trained = Doubled.steps > 0 if isinstance(model, Doubled) else "as Keras does"
    print(type(model).__name__, trained, slim.certificate.macs_left <= 0.6)


if __name__ == "__main__":
    from tests.smoke import own_training  # by whose name the class is registered

    own_training.main(sys.argv[1])
