"""A narrower model is made like the one whose place it takes."""

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras import ResRep
from tests import helpers, zoo
from tests.training.early_removal.models import compiled, crossentropy, train


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("stop", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_saved_after_a_removal_and_resumed_equals_uninterrupted(stop, tmp_path):
    whole = compiled()
    train(whole, 8)

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch + 1 == stop

    part = compiled()
    train(part, 8, callbacks=[Stop()])
    assert bool(helpers.compactors(part)) == (stop == 2)
    part.save(tmp_path / "part.keras")
    revived = keras.models.load_model(tmp_path / "part.keras")
    assert revived.baseline == part.baseline and helpers.difference(part, revived) == 0
    train(revived, 8, initial_epoch=stop)
    for a, b in zip(whole.weights, revived.weights):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=a.path)
    for a, b in zip(whole.optimizer.variables, revived.optimizer.variables):
        np.testing.assert_array_equal(np.array(a), np.array(b), err_msg=a.path)


@keras.saving.register_keras_serializable("test_member")
class Scaled(keras.Model):
    """A loss of its own, which takes no `training`, and its tracker."""

    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor
        self.tracker = keras.metrics.Mean(name="scaled")

    @property
    def metrics(self):
        return [*super().metrics, self.tracker]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        value = self.factor * super().compute_loss(x, y, y_pred, sample_weight)
        self.tracker.update_state(value)
        return value

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.mark.tensorflow_only
def test_training_methods_of_ones_own_go_on():
    dense = zoo.build("chain")
    dense = Scaled(dense.input, dense.output, factor=0.5)
    model = resrep_keras.wrap(dense, ResRep(0.4, slim_every=1))
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), crossentropy())
    history = train(model, 8)
    assert not helpers.compactors(model) and model.factor == 0.5
    assert history.history["scaled"] == pytest.approx(history.history["loss"])
    resrep_keras.finalize(model, strict=True)
