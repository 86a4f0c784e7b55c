"""Sums, products and rows of several tensors: labels and states, by hand."""

import pytest

from resrep_keras.graph.labels import Flow, State
from tests.graph.notebook import Notebook, asked, made, spread


@pytest.fixture
def book():
    return Notebook()


def test_a_sum_couples_its_terms_and_keeps_the_hardest_state(book):
    a, b = made(book, 2, 2)
    b = b.replace(state=b.state + State.CONSTANT, origins=frozenset({3}))
    out = asked(book, [a, b]).merge([a, b])
    assert book.labels.roots().tolist() == [0, 1, 0, 1]
    assert out.state.ravel().tolist() == [State.CONSTANT] * 2 and out.origins == {3}


def test_a_term_that_is_broadcast_over_channels_is_kept_and_leaves_values(book):
    a, one = made(book, 2, 1)
    out = asked(book, [a, one]).merge([a, one])
    assert book.reasons(a) == [None, None]
    assert "broadcast over channels" in book.reasons(one)[0]
    assert out.state.ravel().tolist() == [State.VARYING] * 2


@pytest.mark.parametrize("join", ["merge", "multiply"])
def test_channels_that_lie_along_different_axes_are_no_ones_partners(book, join):
    labels = book.labels.fresh(4).reshape(1, 4, 1, 1)
    across, (a,) = Flow(labels, (None, 4, 4, 2)), made(book, 2)
    out = getattr(asked(book, [a, across]), join)([a, across])
    for flow in (a, across):
        assert "channels lie along different axes" in book.reasons(flow)[0]
    assert len(set(book.labels.roots()[:6])) == 6  # none was coupled with another one
    assert out[0].labels.size == 1


def test_one_zero_factor_makes_a_product_zero_and_the_smaller_one_follows(book):
    (stream,) = made(book, 2)
    (scale,) = made(book, 2, size=(None, 1, 1), state=State.VARYING)
    out = asked(book, [stream, scale]).multiply([stream, scale])
    assert out.state.ravel().tolist() == [State.ZERO] * 2
    assert book.said == [("follow", [0, 1], [2, 3])]
    assert book.labels.roots().tolist() == [0, 1, 0, 1]


def test_a_factor_that_is_broadcast_over_channels_is_kept(book):
    stream, one = made(book, 2, 1)
    out = asked(book, [stream, one]).multiply([stream, one])
    assert book.reasons(stream) == [None, None]
    assert "broadcast over channels" in book.reasons(one)[0]
    assert out.state.ravel().tolist() == [State.ZERO] * 2  # zero times anything


def test_a_concatenation_has_the_channels_in_a_row(book):
    a, b = made(book, 2, 3)
    b = b.replace(state=b.state + State.CONSTANT)
    out = asked(book, [a, b], (None, 4, 4, 5)).concatenate([a, b], 3)
    assert out.labels.ravel().tolist() == [0, 1, 2, 3, 4]
    assert out.state.ravel().tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("height", [4, None])
def test_a_concatenation_along_another_axis_couples(book, height):
    flows = made(book, 2, 2, size=(None, height, 4))
    constants = [flow.replace(state=flow.state + State.CONSTANT) for flow in flows]
    shape = (None, height and 2 * height, 4, 2)
    out = asked(book, flows, shape).concatenate(flows, 1)
    assert book.labels.roots().tolist() == [0, 1, 0, 1] and out.shape == shape
    assert out.state.ravel().tolist() == [State.ZERO] * 2
    out = asked(book, constants, shape).concatenate(constants, 1)
    assert out.state.ravel().tolist() == [State.FIXED] * 2  # one constant above the other


def test_a_concatenation_of_unknown_sizes_is_pinned(book):
    (flow,) = made(book, 1, size=(None, None, 4))
    asked(book, [flow, flow], (None, None, 4, 1)).concatenate([flow, flow], 1)
    assert "a concatenation of unknown sizes" in book.reasons(flow)[0]


def test_a_factor_of_one_axis_meets_channels_along_several(book):
    wide, scale = spread(book, 4, 4, 2), made(book, 2, size=(None, 1, 1))[0]
    out = asked(book, [wide, scale]).multiply([wide, scale])
    assert out.wide_axes == [3] and len(set(book.labels.roots().tolist())) == 2


def test_terms_of_fewer_axes_have_axes_of_one_in_front(book):
    a = Flow(book.labels.fresh(2).reshape(1, 1, 2), (None, 5, 2))
    table = Flow(book.labels.fresh(2).reshape(1, 2), (5, 2))
    out = asked(book, [a, table], (None, 5, 2)).merge([a, table])
    assert out.labels.shape == (1, 1, 2) and book.labels.roots().tolist() == [0, 1, 0, 1]
