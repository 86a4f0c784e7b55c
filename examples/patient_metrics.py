"""How well patients are told apart, with intervals over patients; and pictures of it."""

import dataclasses

import numpy as np


def auc(labels, scores):
    """Area under the ROC curve: how often a positive patient scores above a negative one."""
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    positive, negative = scores[labels == 1][:, None], scores[labels == 0]
    return float(np.mean(positive > negative) + np.mean(positive == negative) / 2)


def confusion(labels, decisions):
    """`(2, 2)` counts of patients: rows are the true classes, columns the decisions."""
    table = np.zeros((2, 2), int)
    np.add.at(table, (np.asarray(labels, int), np.asarray(decisions, int)), 1)
    return table


def sensitivity(labels, scores):
    """Share of the positive patients that are found: scores above 0."""
    return float(np.mean(np.asarray(scores)[np.asarray(labels) == 1] > 0))


def specificity(labels, scores):
    """Share of the negative patients that are left alone."""
    return float(np.mean(np.asarray(scores)[np.asarray(labels) == 0] <= 0))


MEASURES = {"auc": auc, "sensitivity": sensitivity, "specificity": specificity}


@dataclasses.dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def measured(labels, scores, draws=2000, seed=0):
    """`{measure: Measured}`; intervals are percentiles over patients drawn anew, by class.

    Args:
        labels: 1 or 0 for each patient.
        scores: Logits: a decision for the positive class is above 0.
        draws: How often patients are drawn, with replacement, as many of each class as there are.
        seed: Of the draws.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    drawn = {name: [] for name in MEASURES}
    for _ in range(draws):
        chosen = np.concatenate([generator.choice(group, len(group)) for group in groups])
        for name, measure in MEASURES.items():
            drawn[name].append(measure(labels[chosen], scores[chosen]))
    return {
        name: Measured(measure(labels, scores), *np.percentile(drawn[name], (2.5, 97.5)).tolist())
        for name, measure in MEASURES.items()
    }


def gain(attention, tells, present):
    """Mean attention on the tiles that tell, in times of what equal weights would put there.

    Only patients count that have tiles of both kinds.
    """
    gains = []
    for weights, told, there in zip(attention, tells, present):
        told = np.asarray(told)
        if 0 < told.sum() < there.sum():
            gains.append(weights[: len(told)][told].sum() / (told.sum() / there.sum()))
    return float(np.mean(gains))


# --- pictures -------------------------------------------------------------------------------------


def attention_figure(rows, classes, title):
    """A figure of tiles: a patient a row, and below each tile the share of the attention.

    Args:
        rows: `(patient, tiles, attention, score)` each.
        classes: Names of the negative and the positive class.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt

    most = max(len(tiles) for _, tiles, _, _ in rows)
    figure, axes = plt.subplots(
        len(rows),
        most + 1,
        squeeze=False,
        figsize=(1.5 * most + 2.2, 1.75 * len(rows) + 0.9),
        width_ratios=[1.4] + [1] * most,
    )
    for line, (patient, tiles, attention, score) in zip(axes, rows):
        for place in line:
            place.set_axis_off()
        chance = 1 / (1 + np.exp(-score))
        words = (
            f"{patient.name}\ntrue: {classes[patient.label]}\n"
            f"decided: {classes[int(score > 0)]}\nP({classes[1]}) = {chance:.2f}"
        )
        line[0].text(0, 0.5, words, va="center", fontsize=7)
        for number, (place, image, weight) in enumerate(zip(line[1:], tiles, attention)):
            told = patient.tells is not None and patient.tells[number]
            _tile(place, image, weight, 1 / len(tiles), told)
    notes = "Bar and number: share of the attention on the tile; line in the bar: equal shares."
    if any(patient.tells is not None for patient, *_ in rows):
        notes += "\nGreen frame: tile on which the classes differ."
    figure.suptitle(title, fontsize=10)
    figure.text(0.5, 0.005, notes, ha="center", va="bottom", fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _tile(place, image, weight, equal, told):
    place.set_axis_on()
    place.imshow(np.asarray(image).astype("uint8"))
    place.set_xticks([])
    place.set_yticks([])
    for side in place.spines.values():
        side.set(color="green" if told else "lightgrey", linewidth=3 if told else 1)
    bar = place.inset_axes([0, -0.16, 1, 0.1])
    bar.barh(0, weight, color="tab:orange")
    bar.axvline(equal, color="black", linewidth=1)
    bar.set(xlim=(0, 1), xticks=[], yticks=[])
    place.set_xlabel(f"{100 * weight:.0f} %", fontsize=8, labelpad=17)


def confusion_figure(table, classes, title):
    """A figure of a confusion matrix, in patients."""
    import matplotlib.pyplot as plt

    figure, place = plt.subplots(figsize=(4.6, 3.8))
    place.imshow(table, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(table):
        dark = count > table.max() / 2
        place.text(column, row, count, ha="center", va="center", color="white" if dark else "black")
    names = [name.replace("_", "\n") for name in classes]
    place.set_xticks([0, 1], names, fontsize=8)
    place.set_yticks([0, 1], names, fontsize=8)
    place.set(xlabel="decided (patients)", ylabel="true class (patients)")
    place.set_title(title, fontsize=9)
    figure.tight_layout()
    return figure
