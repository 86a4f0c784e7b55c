"""Image data for the examples: embedded digits, MNIST-style idx files, any tfds name."""

import gzip
import os
import pathlib

import numpy as np

HELP = (
    "'digits' (embedded), or the name of a tfds data set. Not needed with a --data_dir of idx "
    "files; the default without one is digits."
)


def load_digits():
    """Return scikit-learn's 1,797 embedded 8x8 digits as ``(train, test)`` pairs."""
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    images = (images / 16.0).astype("float32").reshape(-1, 8, 8, 1)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order].astype("int32")
    return (images[:1400], labels[:1400]), (images[1400:], labels[1400:])


def _read_idx(folder, stem):
    """Read one idx file, gzipped or not, as a uint8 array."""
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.exists():
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
            ndim = raw[3]  # magic number: 0, 0, type code 8 (uint8), rank
            shape = np.frombuffer(raw, ">i4", count=ndim, offset=4)
            return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)
    raise FileNotFoundError(f"Expected '{stem}' or '{stem}.gz' in '{folder}'; found neither.")


def load_idx(folder):
    """Return the MNIST-style data set of an idx folder as ``(train, test)`` pairs."""
    folder = pathlib.Path(folder)
    return tuple(
        (
            _read_idx(folder, f"{part}-images-idx3-ubyte")[..., None].astype("float32") / 255.0,
            _read_idx(folder, f"{part}-labels-idx1-ubyte").astype("int32"),
        )
        for part in ("train", "t10k")
    )


def load_tfds(name, data_dir=None):
    """Return a tfds set of equally sized images with labels as ``(train, test)`` pairs.

    The test part is the split ``test``, else ``validation``, else the last tenth of ``train``.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise SystemExit(
            f"Expected --dataset to be 'digits' or the name of a tfds data set; got '{name}'."
        ) from error
    builder.download_and_prepare()
    known = set(builder.info.splits) or {"train", "test"}
    held_out = next((split for split in ("test", "validation") if split in known), None)
    splits = ["train", held_out] if held_out else ["train[:90%]", "train[90%:]"]
    parts = []
    for split in splits:
        batches = builder.as_dataset(split=split, batch_size=1024, as_supervised=True)
        images, labels = zip(*tfds.as_numpy(batches))
        images = np.concatenate(images).astype("float32") / 255.0
        parts.append((images, np.concatenate(labels).astype("int32")))
    return tuple(parts)


def load(name=None, data_dir=None):
    """Load ``digits``, a folder of idx files given as ``data_dir``, or a tfds name.

    Args:
        name: ``"digits"`` or the name of a tfds data set. A folder of idx files needs none; without
            a folder the default is ``"digits"``.
        data_dir: A folder of idx files, or where tfds keeps its data.

    Raises:
        SystemExit: Flags that contradict each other, or data that nobody finds, in words.
    """
    if data_dir is None:
        return load_digits() if name in (None, "digits") else load_tfds(name)
    if not os.path.isdir(data_dir):
        raise SystemExit(f"Expected --data_dir to be a folder; there is none at '{data_dir}'.")
    if name == "digits":
        raise SystemExit(
            "--dataset=digits is embedded, and takes no --data_dir. Leave one of them out."
        )
    if any(file.startswith("train-images-idx3") for file in os.listdir(data_dir)):
        return load_idx(data_dir)
    if name is None:
        raise SystemExit(
            f"Expected --data_dir to hold idx files such as 'train-images-idx3-ubyte.gz'; "
            f"'{data_dir}' has none. Give --dataset, too, where it is a folder of tfds."
        )
    return load_tfds(name, data_dir)
