"""Tiles of tissue, patient by patient: folders of them, and synthetic ones that show no patient.

A folder has one folder for each class, in it one for each patient, in it the patient's tiles:

    data/ischemic/patient_017/tile_003.png
"""

import dataclasses
import functools
import pathlib

import keras
import numpy as np

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

# --- patients -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Patient:
    """The tiles of one patient.

    Args:
        name: Of the patient.
        label: 1 for the positive class, 0 for the other.
        tiles: Paths of images, or a `(tiles, height, width, 3)` array of 0 to 255.
        tells: Which tiles differ between the classes, bools; `None` where nobody knows.
    """

    name: str
    label: int
    tiles: object
    tells: object = None


def read_folder(folder, positive):
    """The patients of a folder, and the names of the negative and the positive class.

    Raises:
        ValueError: Not two folders of classes, or a patient without a tile, or in both classes.
    """
    classes = sorted(path.name for path in pathlib.Path(folder).iterdir() if path.is_dir())
    if len(classes) != 2 or positive not in classes:
        raise ValueError(
            f"Expected two folders of classes in '{folder}', one of them '{positive}'; got "
            f"{classes}."
        )
    patients = []
    for name in classes:
        for place in sorted((pathlib.Path(folder) / name).iterdir()):
            if place.is_dir():
                tiles = [path for path in sorted(place.iterdir()) if _is_image(path)]
                patients.append(Patient(place.name, int(name == positive), tuple(tiles)))
    names = [patient.name for patient in patients]
    empty = [patient.name for patient in patients if not patient.tiles]
    twice = sorted({name for name in names if names.count(name) > 1})
    if empty or twice:
        problem = f"no tile for {empty}" if empty else f"{twice} in both classes"
        raise ValueError(f"Expected each patient of '{folder}' in one class; got {problem}.")
    return patients, [next(name for name in classes if name != positive), positive]


def _is_image(path):
    return path.suffix.lower() in ENDINGS


def split(patients, shares, seed=0):
    """Split patients, never tiles, into parts of about these shares, each class by itself.

    Two tiles of one patient are more alike than those of two: a split by tile would measure how
    well patients are recognised.
    """
    generator = np.random.default_rng(seed)
    parts = [[] for _ in shares]
    bounds = np.cumsum(shares) / np.sum(shares)
    for label in (0, 1):
        own = [patient for patient in patients if patient.label == label]
        order = generator.permutation(len(own))
        ends = np.round(bounds * len(own)).astype(int)
        for part, begin, end in zip(parts, [0, *ends[:-1]], ends):
            part += [own[i] for i in order[begin:end]]
    if any({p.label for p in part} != {0, 1} for part in parts):
        raise ValueError(
            f"Expected patients of both classes in each of {len(shares)} parts; got "
            f"{[len(part) for part in parts]} patients. Give more, or larger shares."
        )
    return parts


def class_weights(patients):
    """Weights under which both classes count alike in the loss."""
    counts = np.bincount([patient.label for patient in patients], minlength=2)
    return {label: len(patients) / (2 * count) for label, count in enumerate(counts)}


# --- batches --------------------------------------------------------------------------------------


def read_tile(path, size):
    """An image as `(size, size, 3)` of 0 to 255."""
    from PIL import Image

    with Image.open(path) as image:
        image = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(image)


class Batches(keras.utils.PyDataset):
    """Batches of patients: `({"tiles", "present"}, labels)`.

    Each patient gives `length` tiles: in training others in each epoch, in a drawn order; else
    evenly spaced ones. A patient with fewer is padded; `present` is false there. Padding repeats
    the patient's tiles, so that a batch normalisation sees tissue only.

    Args:
        patients: List of `Patient`.
        size: Height and width of a tile in pixels.
        length: Tiles of a patient.
        batch_size: Patients in a batch.
        augment: Whether to draw, turn, flip and stain tiles anew: for training.
        seed: Of what is drawn.
        cache: How many read tiles to keep in memory.
        epoch: The first epoch; what is drawn depends on nothing but seed and epoch.
        workers: Threads that make batches.
    """

    def __init__(
        self,
        patients,
        size,
        length,
        batch_size=8,
        augment=False,
        seed=0,
        cache=0,
        epoch=0,
        workers=1,
    ):
        super().__init__(workers=workers)
        self.patients, self.size, self.length = list(patients), size, length
        self.batch_size, self.augment, self._seed = batch_size, augment, seed
        self._epoch = epoch - 1
        self._read = functools.lru_cache(cache)(functools.partial(read_tile, size=size))
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.patients) // self.batch_size)

    def on_epoch_end(self):
        self._epoch += 1
        self._order = np.arange(len(self.patients))
        if self.augment:
            self._order = self._generator(0).permutation(self._order)

    def _generator(self, *place):
        return np.random.default_rng((self._seed, self._epoch, *map(int, place)))

    def __getitem__(self, index):
        chosen = self._order[index * self.batch_size :][: self.batch_size]
        rows = [self._tiles_of(self.patients[i], self._generator(1, i)) for i in chosen]
        tiles, present = map(np.stack, zip(*rows))
        labels = np.array([[self.patients[i].label] for i in chosen], "float32")
        return {"tiles": tiles, "present": present}, labels

    def _tiles_of(self, patient, generator):
        count = len(patient.tiles)
        chosen = self.chosen(patient)
        if self.augment:
            chosen = generator.permutation(count)[: self.length]
        padded = np.resize(chosen, self.length)
        tiles = [patient.tiles[i] for i in padded]
        if not isinstance(patient.tiles, np.ndarray):
            tiles = [self._read(path) for path in tiles]
        tiles = np.stack(tiles).astype("float32")
        if self.augment:
            tiles = stained(turned(tiles, generator), generator)
        return tiles, np.arange(self.length) < len(chosen)

    def chosen(self, patient):
        """Which tiles of a patient are seen where nothing is drawn."""
        count = len(patient.tiles)
        return np.unique(np.linspace(0, count - 1, min(count, self.length)).round().astype(int))


# --- augmentation ---------------------------------------------------------------------------------

# Optical densities of haematoxylin, eosin and a rest (Ruifrok and Johnston, 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], "float32")
UNSTAINED = np.linalg.inv(STAINS).astype("float32")


def turned(tiles, generator):
    """Each tile flipped or not, and turned by a multiple of 90 degrees."""
    turns, flips = generator.integers(0, 4, len(tiles)), generator.integers(0, 2, len(tiles))
    pairs = zip(tiles, turns, flips)
    return np.stack([np.rot90(tile[:, ::-1] if flip else tile, k) for tile, k, flip in pairs])


def stained(tiles, generator, strength=0.1):
    """Tiles of one slide with a little more or less of each stain (after Tellez et al., 2018)."""
    density = -np.log((np.clip(tiles, 0, 255) + 1) / 256)
    amounts = density @ UNSTAINED
    factors = generator.uniform(1 - strength, 1 + strength, 3).astype("float32")
    offsets = generator.uniform(-strength, strength, 3).astype("float32") / 2
    return np.clip(np.exp(-(amounts * factors + offsets) @ STAINS) * 256 - 1, 0, 255)
