"""Masks among arguments are attached to the tensors that they are of."""

import keras
import numpy as np
from keras import layers, ops

from resrep_keras.graph.masks import attach_masks, with_masks_said


class Sees(layers.Layer):
    """Notes the masks of what a layer inside is called on."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.seen = []

    def call(self, x, mask=None):
        self.seen.append(mask)
        return x


class Outer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, other=None, mask=None, other_mask=None):
        return x


def seen(tensor):
    sees = Sees()
    sees(tensor)
    return sees.seen[-1]


def arrays(count):
    return [ops.convert_to_tensor(np.ones((2, 3), "float32")) for _ in range(count)]


def test_by_position_and_by_name():
    (x, other), masks = arrays(2), arrays(2)
    attach_masks(Outer(), (x,), {"other": other, "mask": masks[0], "other_mask": masks[1]})
    assert seen(x) is masks[0] and seen(other) is masks[1]


def test_those_of_several_tensors_of_which_one_has_none():
    (x, other, more), masks = arrays(3), arrays(2)
    attach_masks(Outer(), ([x, other, more],), {"mask": [masks[0], None, masks[1]]})
    assert seen(x) is masks[0] and seen(other) is None and seen(more) is masks[1]


def test_without_a_mask_nothing_is_attached():
    (x,) = arrays(1)
    attach_masks(Outer(), (x,), {"mask": None})
    assert seen(x) is None
    inputs = keras.Input((3,))
    attach_masks(Outer(), (inputs,), {"mask": inputs})
    assert inputs._keras_mask is inputs


def test_a_graph_in_which_calls_are_told_their_masks():
    class Both(Outer):
        def call(self, x, other=None, mask=None, other_mask=None, x_mask=None):
            return x if x_mask is None else x * ops.cast(x_mask, x.dtype)[..., None]

    both = Both()
    inputs, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    attach_masks(Outer(), (inputs,), {"mask": mask})
    graph = keras.Model([inputs, mask], both(inputs, other=inputs * 2))
    x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    here = np.array([[1, 0, 1, 0], [0, 0, 1, 1]], bool)
    np.testing.assert_allclose(graph([x, here]), x)
    told = with_masks_said(graph, [inputs, mask])
    np.testing.assert_allclose(told([x, here]), x * here[..., None])
