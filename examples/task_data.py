"""Sequences of tasks made of one set of images, and a net with a head for each."""

import keras
import numpy as np
from keras import layers


class PermutedTasks:
    """Each task sees the pixels of the same images in an order of its own.

    Args:
        x: Array `(images, ...)`.
        y: Array `(images,)` of labels, ints.
        number: Number of tasks.
        seed: Of the orders. Task `k` has the same one in the training and the test images.
    """

    def __init__(self, x, y, number, seed=0):
        self._x, self._y = x.reshape(len(x), -1), y
        self._number, self._seed = number, seed
        self.inputs, self.classes = self._x.shape[1], int(y.max()) + 1

    def __len__(self):
        return self._number

    def __getitem__(self, task):
        order = np.random.default_rng([self._seed, task]).permutation(self.inputs)
        return self._x[:, order], self._y


class SplitTasks:
    """Each task tells some of the classes apart, drawn anew once all classes have had their turn.

    Args:
        x, y, number, seed: As for `PermutedTasks`; the draws of classes are those of the seed.
        classes: Classes of a task, whose labels are ints from 0.
    """

    def __init__(self, x, y, number, seed=0, classes=2):
        self._x, self._y = x.reshape(len(x), -1), y
        self._number, self._seed = number, seed
        self.inputs, self.classes = self._x.shape[1], classes

    def __len__(self):
        return self._number

    def __getitem__(self, task):
        known = int(self._y.max()) + 1
        turn, place = divmod(task, known // self.classes)
        order = np.random.default_rng([self._seed, turn]).permutation(known)
        chosen = order[place * self.classes : (place + 1) * self.classes]
        labels = np.full(known, -1, "int32")
        labels[chosen] = np.arange(self.classes)
        own = labels[self._y] >= 0
        return self._x[own], labels[self._y[own]]


KINDS = {"permuted": PermutedTasks, "split": SplitTasks}


def multi_head_net(inputs, units, classes, number, name="multi_head"):
    """A trunk of dense layers, and a head with softmax for each task."""
    x = images = keras.Input((inputs,))
    for width in units:
        x = layers.Dense(width, activation="relu")(x)
    heads = {
        f"task_{task}": layers.Dense(classes, activation="softmax", name=f"task_{task}")(x)
        for task in range(number)
    }
    return keras.Model(images, heads, name=name)
