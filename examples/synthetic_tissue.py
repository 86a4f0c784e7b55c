"""Synthetic stained tissue, made of noise: it shows no patient, and nothing clinical follows.

Each tile has muscle fibres, light gaps between them, pale fibrosis and dark nuclei. Both classes
have the same amounts and colours of all four, drawn in the same way; only where the fibrosis lies
differs, and only on some tiles of a patient, those that *tell*:

- class 1, "patchy": in one or two compact patches, as a scar is;
- class 0, "interstitial": in thin strands between the fibres;
- on all other tiles of either class: in small round spots.
"""

import numpy as np
from tissue import Patient

CLASSES = ("synthetic_interstitial", "synthetic_patchy")
MUSCLE, GAP, FIBROSIS, NUCLEUS = (
    np.array(colour, float)
    for colour in ((203, 105, 142), (240, 214, 224), (229, 187, 205), (88, 55, 125))
)
# Standard deviations along and across the fibres of the noise that becomes fibrosis, in pixels.
PATCHY, INTERSTITIAL, SPOTS = (9.0, 9.0), (10.0, 1.1), (3.0, 3.0)


def _smooth_noise(generator, size, angle, along, across):
    """Gaussian noise, smoothed along an angle and across it."""
    y, x = np.meshgrid(*[2 * np.pi * np.fft.fftfreq(size)] * 2, indexing="ij")
    first = np.cos(angle) * x + np.sin(angle) * y
    second = -np.sin(angle) * x + np.cos(angle) * y
    kept = np.exp(-((first * along) ** 2 + (second * across) ** 2) / 2)
    return np.fft.ifft2(np.fft.fft2(generator.normal(size=(size, size))) * kept).real


def _largest(values, among, share):
    """The pixels with the largest values: exactly a share of the tile, out of `among`."""
    chosen = np.zeros(values.size, bool)
    order = np.argsort(np.where(among, values, -np.inf), axis=None)
    chosen[order[values.size - round(share * values.size) :]] = True
    return chosen.reshape(values.shape)


def tile(generator, size, arrangement, fibrosis, gaps, nuclei, colours):
    """One tile, `(size, size, 3)` of 0 to 255.

    Args:
        generator: Of NumPy.
        size: Height and width in pixels.
        arrangement: `PATCHY`, `INTERSTITIAL` or `SPOTS`.
        fibrosis, gaps, nuclei: Share of the pixels that each covers.
        colours: Of muscle, gaps, fibrosis and nuclei.
    """
    angle = generator.uniform(0, np.pi)
    everywhere = np.ones((size, size), bool)
    y, x = np.mgrid[:size, :size]
    bend = 40 * _smooth_noise(generator, size, angle, 12, 12)
    across = -np.sin(angle) * x + np.cos(angle) * y + bend
    is_nucleus = _largest(_smooth_noise(generator, size, angle, 2.2, 1.1), everywhere, nuclei)
    pale = _smooth_noise(generator, size, angle, *arrangement)
    is_pale = _largest(pale, ~is_nucleus, fibrosis)
    lines = np.cos(2 * np.pi * across / 9) + 0.3 * generator.normal(size=(size, size))
    is_gap = _largest(lines, ~is_nucleus & ~is_pale, gaps)
    kind = np.where(is_nucleus, 3, np.where(is_pale, 2, np.where(is_gap, 1, 0)))
    # Hard borders, and a grain for each pixel: mixed colours would tell how long borders are.
    image = colours[kind] + generator.normal(0, 7, (size, size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def patient(number, label, size=80, most_tiles=6, seed=0):
    """A synthetic patient: 4 tiles to `most_tiles`, of which 1 to 3 tell the class."""
    generator = np.random.default_rng((seed, number))
    count = generator.integers(min(4, most_tiles), most_tiles + 1)
    tells = generator.permutation(count) < generator.integers(1, min(3, count) + 1)
    stain = generator.normal(0, 6, 3)  # of the slide
    colours = np.stack([MUSCLE, GAP, FIBROSIS, NUCLEUS]) + stain
    own = PATCHY if label else INTERSTITIAL
    tiles = []
    for told in tells:
        shares = generator.uniform((0.15, 0.12, 0.03), (0.35, 0.20, 0.06))
        tiles.append(tile(generator, size, own if told else SPOTS, *shares, colours))
    return Patient(f"synthetic_patient_{number:04d}", int(label), np.stack(tiles), tells)


def patients(count, size=80, most_tiles=6, seed=0):
    """So many synthetic patients, of the two classes in turn."""
    return [patient(number, number % 2, size, most_tiles, seed) for number in range(count)]


def write_folder(people, folder):
    """Write patients as a folder of tiles, such as `tissue.read_folder` reads."""
    from PIL import Image

    for person in people:
        place = folder / CLASSES[person.label] / person.name
        place.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(person.tiles):
            Image.fromarray(image).save(place / f"synthetic_tile_{number:03d}.png")
