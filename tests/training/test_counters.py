"""What callbacks count goes into a file and comes back."""

import keras
import numpy as np

from resrep_keras.training.counters import counters, read_counters, restore_counters


class Seen(keras.callbacks.Callback):
    def __init__(self, epochs=0, nothing=None):
        super().__init__()
        self.epochs, self.nothing, self.arrays = epochs, nothing, []


counters.register(Seen, lambda callback: ("epochs", "nothing", "arrays"))


def test_counters_are_those_of_known_callbacks():
    assert counters(keras.callbacks.Callback()) == ()
    assert "wait" in counters(keras.callbacks.EarlyStopping())
    assert counters(keras.callbacks.ModelCheckpoint("model.keras")) == ("best",)


def test_numbers_and_arrays_come_back_and_nothing_stays_nothing(tmp_path):
    seen, plain = Seen(7), keras.callbacks.Callback()
    seen.arrays = [np.arange(3), np.ones((2, 2))]
    values = read_counters([plain, seen])
    assert set(values) == {"1.Seen.epochs", "1.Seen.arrays.0", "1.Seen.arrays.1"}
    np.savez(tmp_path / "state.npz", **values)
    fresh = Seen(nothing="as it was")
    restore_counters([plain, fresh], tmp_path / "state.npz")
    assert fresh.epochs == 7 and fresh.nothing == "as it was"
    for array, expected in zip(fresh.arrays, seen.arrays, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_counters_go_by_the_position_of_a_callback(tmp_path):
    np.savez(tmp_path / "state.npz", **read_counters([Seen(1), Seen(2)]))
    first, second = Seen(), Seen()
    restore_counters([first, second], tmp_path / "state.npz")
    assert (first.epochs, second.epochs) == (1, 2)
