"""The words of a rule, by hand: what they say of labels, states and pins."""

import numpy as np
import pytest

from resrep_keras.graph.labels import Flow, State
from tests.graph.notebook import Notebook, asked, made, spread


@pytest.fixture
def book():
    return Notebook()


def test_a_call_knows_its_arguments(book):
    a, b = made(book, 2, 3)
    call = asked(book, [a, b])
    assert (call.name, call.index, call.repeats) == ("layer", 7, 1)
    assert call.input is a and call.output_shape == (None, 4, 4, 2)
    assert call.argument("axis", 5) == 1  # by keyword
    assert call.argument("other", 1) is call.args[1]  # by position
    assert call.argument("other", 2) is None
    assert call.flows_of(call.args[1]) == [b]


def test_pins_name_the_layer(book):
    (a,) = made(book, 2)
    (out,) = asked(book, [a]).pin_all("nobody knows it")
    assert book.reasons(a) == ["layer: nobody knows it"] * 2
    assert book.reasons(out) == ["layer: nobody knows it"]
    assert out.labels.size == 1  # one label for all channels of the output


def test_couple_and_tie(book):
    a, b = made(book, 4, 4)
    call = asked(book, [a, b])
    call.couple(a, b)
    assert book.labels.roots().tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    call.tie(a, 2)  # the first of each half, the second of each half
    assert book.labels.roots().tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_produce_makes_channels_that_are_zero_once_removed(book):
    (a,) = made(book, 2)
    call = asked(book, [a], (None, 4, 4, 3))
    out = call.produce(3, 3)
    assert out.labels.tolist() == [[[[2, 3, 4]]]] and call.axis_out == 3
    assert set(out.state.ravel()) == {State.ZERO}
    book.followers.add("layer")
    assert set(call.produce(3, 3).state.ravel()) == {State.VARYING}


def test_channels_inside_a_layer_get_a_site(book):
    (a,) = made(book, 2)
    call = asked(book, [a])
    assert call.inner_channels("heads", 2).tolist() == [2, 3]
    assert call.inside["heads"].tolist() == [2, 3]
    call.gate_outputs(a, "units")
    assert book.said == [("inner site", "heads", [2, 3]), ("inner site", "units", [0, 1])]


@pytest.mark.parametrize(
    ("state", "folds", "padded", "shared", "stuck"),
    [
        (State.ZERO, State.ZERO, True, True, False),
        (State.CONSTANT, State.CONSTANT, False, False, False),  # goes into a bias
        (State.CONSTANT, State.ZERO, False, False, True),  # no bias to take it
        (State.CONSTANT, State.CONSTANT, True, False, True),  # zeros beyond the border differ
        (State.CONSTANT, State.CONSTANT, False, True, True),  # a bias of two calls
        (State.FIXED, State.CONSTANT, False, False, True),
    ],
)
def test_weights_take_what_a_bias_can_hold(book, state, folds, padded, shared, stuck):
    (a,) = made(book, 2, state=state)
    book.shared = shared
    call = asked(book, [a])
    call.consume(a, 3, folds, padded)
    assert call.consumed == {0: 3} and call.axis_in == 3
    assert book.said == ([("stuck", [0, 1], [])] if stuck else [])


def test_channels_along_another_axis_than_the_weights_read_are_pinned(book):
    labels = book.labels.fresh(4).reshape(1, 4, 1, 1)
    flow = Flow(labels, (None, 4, 4, 3))
    call = asked(book, [flow])
    out = call.vector(flow, 3)
    for pinned in (flow, out):
        assert "along axis 3 of a tensor whose channels lie along axis 1" in book.reasons(pinned)[0]


def test_zeros_become_constants_and_those_uneven_at_borders(book):
    (a,) = made(book, 2)
    call = asked(book, [a])
    constant = call.constant(a)
    assert set(constant.state.ravel()) == {State.CONSTANT} and constant.origins == {7}
    assert set(call.uneven(constant).state.ravel()) == {State.FIXED}
    assert set(call.uneven(a).state.ravel()) == {State.ZERO}
    varying = a.replace(state=np.full_like(a.state, State.VARYING))
    assert set(call.constant(varying).state.ravel()) == {State.VARYING}


def test_channels_that_lie_along_several_axes_are_read_along_one(book):
    flow = spread(book, 2, 3)
    flow = flow.replace(state=flow.state + State.CONSTANT)
    vector = asked(book, [flow]).vector(flow, 2)
    assert vector.labels.tolist() == [[[0, 1, 2]]]
    assert book.labels.roots().tolist() == [0, 1, 2, 0, 1, 2]
    assert vector.state.ravel().tolist() == [State.FIXED] * 3  # each has constants of its own


def test_the_longest_axis_counts_and_the_last_of_equals(book):
    for sizes, axis in (((2, 3), 2), ((3, 2), 1), ((2, 2), 2)):
        flow = spread(book, *sizes)
        assert asked(book, [flow]).settle(flow).wide_axes == [axis]
    flow = spread(book, 2, 3, 4)
    assert asked(book, [flow]).settle(flow, 1, 2).wide_axes == [2]
    narrow = spread(book, 1, 3)
    assert asked(book, [narrow]).settle(narrow) is narrow


def test_a_fixed_scale_asks_for_its_site_in_words(book):
    (a,) = made(book, 2)
    call = asked(book, [a])
    book.site = lambda call, flow, axis, scales, diagonal: (axis, scales, diagonal)
    assert call.site(a, 3, True) == (3, True, False)
    assert call.axis_out == 3 and not book.said
    call.site(a, 3, diagonal=True, shifts=False)
    assert book.said == [("before norm",)]


def test_the_answers_of_an_earlier_pass_are_forgotten_the_memo_is_not(book):
    (a,) = made(book, 2)
    call = asked(book, [a])
    call.consume(a, 3)
    call.memo["probe"] = True
    call.begin([a])
    assert (call.consumed, call.axis_in, call.inside) == ({}, None, {})
    assert call.memo == {"probe": True}


# --- channels along several axes ------------------------------------------------------------------


def crossed(book, across_state=State.ZERO):
    """Three channels along the last axis of images of 4 x 4, four more across them."""
    (flow,) = made(book, 3)
    labels = book.labels.fresh(4).reshape(1, 1, 4, 1)
    state = np.full(labels.shape, across_state, np.int8)
    return flow.replace(across=Flow(labels, flow.shape, state))


def test_one_axis_is_left_the_last_that_may_go(book):
    flow = crossed(book)
    call = asked(book, [flow])
    left = call.plain(flow)
    assert left.wide_axes == [3] and left.across is None
    assert book.reasons(left) == [None] * 3
    assert all("across them" in reason for reason in book.reasons(flow.across))
    again = crossed(book)
    call.pin(again.parts[0], "no reason")
    assert call.plain(again).wide_axes == [2]


def test_channels_pass_beside_what_weights_read(book):
    flow = crossed(book)
    call = asked(book, [flow])
    assert [part.wide_axes for part in call.beside(flow, 3)] == [[2]]
    assert [part.wide_axes for part in call.beside(flow, 1)] == [[3], [2]]


@pytest.mark.parametrize(
    "before, shifts, behind",
    [
        (State.ZERO, False, State.ZERO),
        (State.ZERO, True, State.FIXED),
        (State.CONSTANT, False, State.FIXED),
        (State.VARYING, True, State.VARYING),
    ],
)
def test_a_bias_of_another_axis_is_no_constant(book, before, shifts, behind):
    flow = crossed(book, before)
    (part,) = asked(book, [flow]).mixed(flow.parts[1:], shifts)
    assert set(part.state.ravel().tolist()) == {behind}


def test_all_parts_of_a_flow_are_kept_and_become_constants(book):
    flow = crossed(book)
    call = asked(book, [flow])
    states = [set(part.state.ravel().tolist()) for part in call.constant(flow).parts]
    assert states == [{State.CONSTANT}] * 2
    call.pin(flow, "no reason")
    assert call.is_pinned(flow) and None not in book.reasons(flow.across)
