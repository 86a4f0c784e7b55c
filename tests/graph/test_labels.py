"""Channel labels by hand."""

import numpy as np

from resrep_keras.graph.labels import WHOLE, Flow, Labels, State, canonical


def test_fresh_labels_count_on():
    labels = Labels()
    assert labels.fresh(3).tolist() == [0, 1, 2]
    assert labels.fresh(2).tolist() == [3, 4]
    assert len(labels) == 5


def test_a_union_takes_the_smallest_label_of_its_class():
    labels = Labels()
    first, second = labels.fresh(2), labels.fresh(2)  # 0 1, 2 3
    labels.union(first, second)
    assert labels.roots().tolist() == [0, 1, 0, 1]
    labels.union(np.array([2]), np.array([1]))  # 0 2 and 1 3 become one
    assert labels.roots().tolist() == [0, 0, 0, 0]
    assert sorted(labels.members(3)) == [0, 1, 2, 3]


def test_a_reason_holds_for_the_whole_class_and_the_first_one_counts():
    labels = Labels()
    ids = labels.fresh(4)
    labels.pin(ids[2:3], "second")
    labels.union(ids[:2], ids[2:])  # 0 2, 1 3
    labels.pin(ids[:1], "late")
    assert [labels.pin_of(label) for label in ids] == ["second", None, "second", None]


def test_a_reason_can_go_before_others():
    labels = Labels()
    ids = labels.fresh(2)
    labels.pin(ids, "first")
    labels.pin_for(ids[1:], "output of the model")
    assert [labels.pin_of(label) for label in ids] == ["first", "output of the model"]


def test_an_anchor_pins_what_it_meets_and_joins_nothing():
    labels = Labels()
    anchor = labels.fresh_pinned("unknown")
    ids = labels.fresh(3)
    labels.union(np.full(2, anchor), ids[:2])
    assert labels.roots().tolist() == [0, 1, 2, 3]
    assert [labels.pin_of(label) for label in ids] == ["unknown", "unknown", None]


def test_canonical_labels_have_size_1_where_all_slices_are_equal():
    labels = np.broadcast_to(np.array([4, 5, 6]), (1, 2, 2, 3))
    assert canonical(labels).tolist() == [[[[4, 5, 6]]]]
    both = np.array([[1, 2], [3, 4]])
    assert canonical(both) is both


def image_flow():
    """Three channels, the last of which is constant once removed, on a 2 x 2 image."""
    state = np.array([0, 0, State.CONSTANT], np.int8).reshape(1, 1, 1, 3)
    return Flow(np.array([7, 8, 9]).reshape(1, 1, 1, 3), (None, 2, 2, 3), state)


def test_a_new_flow_is_zero_where_channels_are_removed():
    flow = Flow(np.array([[1, 2]]), (None, 2))
    assert flow.state.tolist() == [[State.ZERO, State.ZERO]]


def test_the_channel_axis_is_the_one_along_which_labels_differ():
    assert image_flow().channel_axis == 3
    assert Flow(np.array([[[5]], [[6]]]).reshape(1, 2, 1), (None, 2, 4)).channel_axis == 1
    assert Flow(np.array([[[5]]]), (None, 2, 4)).channel_axis == 2  # none differs: the last
    assert Flow(np.arange(4).reshape(1, 2, 2), (None, 2, 2)).channel_axis is None


def test_expanded_labels_have_the_size_of_the_tensor():
    flow = image_flow().expanded()
    assert flow.labels.shape == flow.state.shape == (1, 2, 2, 3)
    assert flow.labels[0, 1, 0].tolist() == [7, 8, 9]
    assert image_flow().expanded([2]).labels.shape == (1, 1, 2, 3)


def test_flatten_is_what_numpy_makes_of_the_labels():
    flow = image_flow().expanded().map(lambda a: a.reshape(1, -1), (None, 12))
    assert flow.labels.tolist() == [[7, 8, 9] * 4]
    assert flow.state.tolist() == [[0, 0, 1] * 4]
    assert flow.shape == (None, 12)


def test_where_labels_shrink_the_hardest_state_counts():
    labels = np.array([[[3, 3], [3, 3]]])
    state = np.array([[[0, 2], [1, 0]]], np.int8)
    flow = Flow(labels, (None, 2, 2), state).map(lambda a: a, (None, 2, 2))
    assert (flow.labels.tolist(), flow.state.tolist()) == ([[[3]]], [[[2]]])


def test_labels_along_an_axis_are_those_of_the_channels_or_stand_for_the_whole_axis():
    flow = image_flow()
    assert flow.labels_along(3).tolist() == flow.labels_along().tolist() == [7, 8, 9]
    assert flow.labels_along(1).tolist() == [WHOLE] * 2
    assert flow.along(3).state.ravel().tolist() == [0, 0, State.CONSTANT]
    assert not flow.along(1).state.any()


def test_the_one_label_of_a_tensor_stands_for_each_entry_of_an_axis():
    flow = Flow(np.array([[[5]]]), (None, 4, None))
    assert flow.labels_along(1).tolist() == [5] * 4
    assert flow.labels_along(2).tolist() == [5]  # of unknown size


def test_labels_along_several_axes_are_whole_along_each():
    flow = Flow(np.arange(6).reshape(1, 2, 3), (None, 2, 3))
    assert flow.labels_along(1).tolist() == [WHOLE] * 2
    assert flow.labels_along(2).tolist() == flow.labels_along().tolist() == [WHOLE] * 3


def crossed():
    """Channels 7, 8, 9 along the last axis, and 1, 2 across them."""
    across = Flow(np.array([[[1], [2]]]), (None, 2, 3), np.array([[[0], [2]]], np.int8))
    return Flow(np.array([[[7, 8, 9]]]), (None, 2, 3), across=across)


def test_flows_across_move_along():
    flow = crossed().map(lambda a: a.transpose(0, 2, 1), (None, 3, 2))
    first, other = flow.parts
    assert (first.wide_axes, other.wide_axes) == ([1], [2]) and first.across is None
    assert flow.labels_along(1).tolist() == [7, 8, 9]
    assert flow.labels_along(2).tolist() == [1, 2]
    assert other.state.ravel().tolist() == [State.ZERO, State.FIXED]
    assert flow.replace(shape=(None, 3, 4)).across.shape == (None, 3, 4)


def test_each_part_is_asked_and_those_without_channels_are_left_out():
    flow = crossed().each(lambda part: part.replace(labels=part.labels + 1))
    assert [part.labels.ravel().tolist() for part in flow.parts] == [[8, 9, 10], [2, 3]]
    assert {part.shape for part in flow.replace(shape=(None, 2, 4)).parts} == {(None, 2, 4)}
    longer = flow.parts[0].replace(shape=(None, 2, 5)).crossed_by(flow.parts[1:])
    assert longer.across.shape == (None, 2, 5)  # that of the tensor, whatever it was made of
    none = Flow(np.array([[[5]]]), (None, 2, 3))
    assert flow.crossed_by([none]).across is None


def test_a_flow_moves_to_an_axis_of_another_shape():
    flow = crossed().parts[1].moved(3, (None, 4, 5, 2))
    assert flow.labels.shape == (1, 1, 1, 2) and flow.shape == (None, 4, 5, 2)
