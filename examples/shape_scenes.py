"""Shapes on a grainy ground, and their boxes: a detection set that needs no files."""

import numpy as np

CLASSES = ("disc", "ring", "square", "triangle")
MOST = 4  # shapes of a scene


def scenes(number, size, seed):
    """Scenes as kyolo takes them.

    Colours and sizes tell nothing of the class. No two boxes touch.

    Args:
        number: How many.
        size: Height and width in pixels.
        seed: Of everything drawn.

    Returns:
        `(images, targets)`: pixels between 0 and 1, and a dict of `boxes` (x1, y1, x2, y2 in
        pixels), `labels` and `mask`, which is 1 where there is a shape.
    """
    generator = np.random.default_rng(seed)
    drawn = [_scene(size, generator) for _ in range(number)]
    images, boxes, labels = (np.stack(part) for part in zip(*drawn))
    mask = (labels >= 0).astype("float32")
    return images, {"boxes": boxes, "labels": np.maximum(labels, 0), "mask": mask}


def _scene(size, generator):
    image = _ground(size, generator)
    boxes, labels = np.zeros((MOST, 4), "float32"), np.full(MOST, -1, "int32")
    wanted, there = generator.integers(1, MOST + 1), 0
    for _ in range(4 * MOST):
        if there == wanted:
            break
        label = generator.integers(len(CLASSES))
        inside = _shape(CLASSES[label], size, generator)
        rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], "float32")
        if any(_touch(box, other) for other in boxes[:there]):
            continue
        colour = generator.uniform(0, 1, 3)
        colour += np.sign(colour - image[inside].mean(0)) * 0.15
        grain = generator.normal(0, 0.05, (inside.sum(), 3))
        image[inside] = np.clip(colour + grain, 0, 1)
        boxes[there], labels[there] = box, label
        there += 1
    return image, boxes, labels


def _ground(size, generator):
    """A slope of two colours with coarse and fine grain, and lines that are no shapes."""
    ends = generator.uniform(0.1, 0.9, (2, 3))
    image = np.linspace(0, 1, size)[:, None, None] * (ends[1] - ends[0]) + ends[0]
    image = np.repeat(image, size, axis=1)
    coarse = generator.normal(0, 0.08, (size // 8, size // 8, 3)).repeat(8, 0).repeat(8, 1)
    image += coarse + generator.normal(0, 0.05, image.shape)
    for _ in range(3):
        at, width = generator.integers(0, size - 3), generator.integers(1, 4)
        lines = np.swapaxes(image, 0, 1) if generator.uniform() < 0.5 else image
        lines[at : at + width] = generator.uniform(0, 1, 3)
    return np.clip(image, 0, 1).astype("float32")


def _shape(name, size, generator):
    """The pixels of a shape, turned at random, wholly in the picture."""
    radius = generator.uniform(0.1, 0.22) * size
    middle = generator.uniform(radius + 1, size - radius - 1, 2)
    angle = generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size] + 0.5
    u, v = x - middle[0], y - middle[1]
    u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    away = np.hypot(u, v)
    if name == "disc":
        return away <= radius
    if name == "ring":
        return (away <= radius) & (away >= 0.55 * radius)
    if name == "square":
        return np.maximum(abs(u), abs(v)) <= radius / np.sqrt(2)
    corners = np.arange(3) * 2 * np.pi / 3
    return np.max([u * np.cos(c) + v * np.sin(c) for c in corners], axis=0) <= radius / 2


def _touch(one, other):
    return (one[:2] < other[2:] + 1).all() and (other[:2] < one[2:] + 1).all()
