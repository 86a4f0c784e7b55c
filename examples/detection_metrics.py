"""Average precision of detections, as COCO defines it, and pictures of them."""

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def average_precisions(found, targets, thresholds=THRESHOLDS):
    """Average precision at each threshold, mean over the classes that occur.

    In descending order of score, a detection takes the shape of its class that it overlaps most,
    of those that none has taken yet; below the threshold it is wrong. Precision is the best at
    this recall or a higher one, averaged over 101 recalls.

    Args:
        found: For each image an array `(n, 6)`: x1, y1, x2, y2, score, class.
        targets: `boxes`, `labels` and `mask` of all images.
        thresholds: Shares of the union that must overlap.

    Returns:
        An array, one number a threshold.
    """
    there = targets["mask"] > 0
    labels = np.unique(targets["labels"][there])
    precisions = [
        [_of_class(found, targets["boxes"], there & (targets["labels"] == label), label, share)]
        for share in thresholds
        for label in labels
    ]
    return np.reshape(precisions, (len(thresholds), len(labels))).mean(1)


def _of_class(found, boxes, there, label, threshold):
    scores, right = [], []
    for detections, candidates, mine in zip(found, boxes, there):
        detections = detections[detections[:, 5] == label]
        detections = detections[np.argsort(-detections[:, 4], kind="stable")]
        scores.extend(detections[:, 4])
        right.extend(_matched(overlaps(detections[:, :4], candidates[mine]), threshold))
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right, float)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(hits / there.sum(), RECALLS - 1e-12)
    return np.append(best, 0.0)[at].mean()


def _matched(shares, threshold):
    """Whether each detection, best first, finds a shape that none has taken."""
    free = np.ones(shares.shape[1], bool)
    for row in shares:
        row = np.where(free, row, -1)
        hit = bool(row.size) and row.max() >= threshold
        if hit:
            free[row.argmax()] = False
        yield hit


def overlaps(first, second):
    """Intersection over union of each box with each, `(n, m)`."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1] - common, 1e-9)


def figure(images, rows, classes, title):
    """A picture of detections: one row a model, one column an image.

    Args:
        images: Pixels between 0 and 1.
        rows: `{name: detections of each image}`; those of a score below 0.3 are left out.
        classes: Names of the classes.
        title: Of the whole.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    made = Figure(figsize=(1.9 * len(images), 2.05 * len(rows) + 0.4), layout="constrained")
    made.suptitle(title, fontsize=10)
    axes = made.subplots(len(rows), len(images), squeeze=False)
    for line, (name, found) in zip(axes, rows.items()):
        line[0].set_ylabel(name, fontsize=9)
        for ax, image, detections in zip(line, images, found):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            for x1, y1, x2, y2, score, label in detections:
                if score < 0.3:
                    continue
                colour = f"C{int(label)}"
                box = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, ec=colour)
                ax.add_patch(box)
                words = f"{classes[int(label)]} {score:.2f}"
                label_box = {"facecolor": colour, "pad": 0.6, "linewidth": 0}
                ax.text(x1, y1 - 1, words, fontsize=5, color="white", bbox=label_box)
    return made
