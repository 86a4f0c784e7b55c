"""The data that the examples read, and the nets that they train."""

import gzip
import struct

import numpy as np
import pytest

import resrep_keras
from tests import paths

datasets = paths.examples("datasets")
nets = paths.examples("nets")


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    raw = header + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def test_digits_are_split_without_overlap():
    (x, y), (test_x, test_y) = datasets.load("digits")
    assert len(x) + len(test_x) == 1797 and len(y) == len(x) and len(test_y) == len(test_x)
    assert x.shape[1:] == (8, 8, 1) and 0 <= x.min() and x.max() == 1
    assert set(np.unique(y)) == set(range(10))


def test_idx_folder(tmp_path):
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (5, 4, 3), np.uint8), np.arange(5, dtype=np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[:2])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels[:2])
    (x, y), (test_x, _) = datasets.load("fashion_mnist", tmp_path)
    np.testing.assert_allclose(x[..., 0], images / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, labels)
    assert test_x.shape == (2, 4, 3, 1)


def test_idx_folder_without_labels_says_which_file(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        datasets.load("mnist", tmp_path)


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("default")
def test_tfds_name():
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=6):
        (x, y), (test_x, _) = datasets.load("cifar10")
    assert x.shape == (6, 32, 32, 3) and x.dtype == "float32" and x.max() <= 1
    assert y.shape == (6,) and test_x.shape[0] == 6


@pytest.mark.parametrize("name", nets.NETS)
def test_half_of_every_net_can_be_removed(name):
    model = nets.NETS[name]((32, 32, 3), 10)
    slim = resrep_keras.MagnitudePruning(target_reduction=0.5).prune(model)
    assert resrep_keras.count_macs(slim) <= 0.5 * resrep_keras.count_macs(model)


def test_the_benchmarked_net_has_five_million_macs():
    assert resrep_keras.count_macs(nets.small_resnet((28, 28, 1), 10)) == 5_535_520
