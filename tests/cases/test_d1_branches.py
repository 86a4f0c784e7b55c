"""Branches that become one convolution after training are pruned in the form that trains.

RepVGG (Ding et al., 2021): a convolution, one of 1x1 and the identity, each with a normalisation,
are summed. MobileOne (Vasu et al., 2023): the same of depthwise and of 1x1 convolutions.
"""

import keras
import pytest
from keras import layers

import resrep_keras
from resrep_keras.methods.channels.channel_state import ChannelState
from tests import helpers, zoo

WIDTH, WIDER = 5, 6


def norm(x):
    return layers.BatchNormalization()(x)


def conv(x, filters, kernel):
    return norm(layers.Conv2D(filters, kernel, padding="same", use_bias=False)(x))


def depthwise(x, kernel):
    return norm(layers.DepthwiseConv2D(kernel, padding="same", use_bias=False)(x))


def summed(branches):
    return layers.ReLU()(layers.Add()(branches))


def repvgg_block(x, filters):
    branches = [conv(x, filters, 3), conv(x, filters, 1)]
    return summed([*branches, norm(x)] if x.shape[-1] == filters else branches)


def mobileone_block(x, filters):
    x = summed([depthwise(x, 3), depthwise(x, 3), depthwise(x, 1), norm(x)])
    branches = [conv(x, filters, 1), conv(x, filters, 1)]
    return summed([*branches, norm(x)] if x.shape[-1] == filters else branches)


class RepVggBlock(layers.Layer):
    """The same as a layer, as third-party packages have it: no get_config()."""

    def __init__(self, filters, identity=True, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.Sequential(
            [layers.Conv2D(filters, 3, padding="same", use_bias=False), layers.BatchNormalization()]
        )
        self.point = keras.Sequential(
            [layers.Conv2D(filters, 1, use_bias=False), layers.BatchNormalization()]
        )
        self.identity = layers.BatchNormalization() if identity else None
        self.activation = layers.ReLU()

    def call(self, x):
        y = self.dense(x) + self.point(x)
        return self.activation(y if self.identity is None else y + self.identity(x))


def repvgg_layer(x, filters):
    return RepVggBlock(filters, x.shape[-1] == filters)(x)


def build(block):
    x = inputs = zoo.image()
    for filters in (WIDTH, WIDTH, WIDER, WIDER):
        x = block(x, filters) if x.shape[-1] > 3 else repvgg_block(x, filters)
    return zoo.randomise(keras.Model(inputs, zoo.head(x)))


# How many layers make each stream: two branches a block.
BLOCKS = {repvgg_block: (4, 4), repvgg_layer: (4, 4), mobileone_block: (4, 4)}


@pytest.mark.parametrize("block", BLOCKS)
def test_streams_go_through_all_branches_exactly(block):
    dense = build(block)
    graph = resrep_keras.trace(dense)
    streams = [group for group in graph.groups if group.prunable]
    assert [group.size for group in streams] == [WIDTH, WIDER]
    made = [len([p for p in group.producers if not p.follows]) for group in streams]
    assert tuple(made) == BLOCKS[block]
    wrapped = resrep_keras.wrap(dense, resrep_keras.ResRep(0.1, coupled=True))
    channel_state = ChannelState(wrapped)
    kept = helpers.random_keep(channel_state.graph, channel_state.groups, seed=1)
    helpers.kill(wrapped, kept, channel_state)
    slim = resrep_keras.finalize(wrapped, strict=True)
    assert slim.certificate.max_relative <= 1e-5
    assert resrep_keras.count_macs(slim) < 0.7 * resrep_keras.count_macs(dense)
    assert all(type(layer).__module__.startswith("keras.") for layer in slim.layers)


def test_coupled_is_named_where_nothing_goes_without_it():
    dense = build(repvgg_layer)
    explanation = resrep_keras.explain(dense)
    coupled = [row for row in explanation.rows if row.status == "coupled"]
    assert len(coupled) == len(explanation.rows) - 1  # all but the last dense layer
    assert all(row.remedy.startswith("set coupled=True") for row in coupled)
    assert f"{coupled[0].layer}" in str(explanation) and "coupled=True, with" in str(explanation)
    with pytest.raises(ValueError, match=r"channels go with those of .* only; set coupled=True"):
        resrep_keras.wrap(dense, resrep_keras.ResRep(0.1))
