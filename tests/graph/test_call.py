"""The words of a rule, by hand: what they say of labels, states and pins."""

import keras
import numpy as np
import pytest

from resrep_keras.graph.call import Call
from resrep_keras.graph.labels import Flow, Labels, State
from resrep_keras.graph.recording import RecordedCall

IMAGE = (None, 4, 4)


class Notebook:
    """Stands for the tracer: notes what a call says."""

    def __init__(self):
        self.labels = Labels()
        self.followers, self.frozen, self.shared = set(), frozenset(), False
        self.said = []

    def is_shared(self, operation):
        return self.shared

    def pin(self, labels, pin):
        self.labels.pin(labels, pin)

    def pin_inexact(self, flow, pin):
        self.said.append(("inexact", pin.text))
        return flow

    def anchor(self, shape, pin):
        label = self.labels.fresh_pinned(pin)
        return Flow(np.full((1,) * len(shape), label), tuple(shape))

    def labels_of(self, name, count):
        return self.labels.fresh(count)

    def inner_labels(self, call, name, count):
        return self.labels.fresh(count)

    def inner_site(self, call, labels, name):
        self.said.append(("inner site", name, labels.tolist()))

    def stuck(self, call, labels, origins):
        self.said.append(("stuck", labels.tolist(), sorted(origins)))

    def follow(self, stream, factor):
        self.said.append(("follow", stream.ravel().tolist(), factor.ravel().tolist()))

    def stand_before_norm(self, call):
        self.said.append(("before norm",))

    def reasons(self, flow):
        pins = [self.labels.pin_of(label) for label in flow.labels.ravel()]
        return [pin and str(pin) for pin in pins]


@pytest.fixture
def book():
    return Notebook()


def made(book, *channels, size=IMAGE, state=State.ZERO):
    """A flow of new channels on the last axis of images of 4 x 4; one for each number."""
    flows = []
    for number in channels:
        labels = book.labels.fresh(number).reshape(1, 1, 1, number)
        flows.append(Flow(labels, (*size, number), np.full(labels.shape, state, np.int8)))
    return flows


def asked(book, flows, output=None):
    """A call on inputs of these flows, with an output like the first."""
    tensors = [keras.KerasTensor(flow.shape) for flow in flows]
    outputs = keras.KerasTensor(output or flows[0].shape)
    operation = keras.layers.Identity()
    recorded = RecordedCall(operation, "layer", tuple(tensors), {"axis": 1}, outputs)
    call = Call(book, 7, recorded, 1)
    call.begin(flows)
    return call


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


def spread(book, *sizes):
    labels = book.labels.fresh(int(np.prod(sizes))).reshape(1, *sizes)
    return Flow(labels, (None, *sizes))


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


def test_a_factor_of_one_axis_meets_channels_along_several(book):
    wide, scale = spread(book, 4, 4, 2), made(book, 2, size=(None, 1, 1))[0]
    out = asked(book, [wide, scale]).multiply([wide, scale])
    assert out.wide_axes == [3] and len(set(book.labels.roots().tolist())) == 2


def test_terms_of_fewer_axes_have_axes_of_one_in_front(book):
    a = Flow(book.labels.fresh(2).reshape(1, 1, 2), (None, 5, 2))
    table = Flow(book.labels.fresh(2).reshape(1, 2), (5, 2))
    out = asked(book, [a, table], (None, 5, 2)).merge([a, table])
    assert out.labels.shape == (1, 1, 2) and book.labels.roots().tolist() == [0, 1, 0, 1]


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
