"""Samples of the data that `fit` runs on."""

import keras
import numpy as np

from resrep_keras.training.early_removal.sample import sample_inputs


def test_samples_use_up_no_generator():
    x = np.arange(6).reshape(6, 1)
    assert sample_inputs(x, size=2).shape == (2, 1)
    assert sample_inputs({"a": x}, size=2)["a"].shape == (2, 1)
    assert sample_inputs(iter([(x, x)])) is None and sample_inputs(None) is None

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return x[:3], x[3:]

    np.testing.assert_array_equal(sample_inputs(Batches()), x[:3])
