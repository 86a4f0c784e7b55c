"""The detection example: its scenes, and its average precision against arithmetic."""

import numpy as np
import pytest

from tests import paths

metrics = paths.examples("detection_metrics")
shape_scenes = paths.examples("shape_scenes")

BOXES = np.array([[[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]], "float32")
TARGETS = {
    "boxes": BOXES,
    "labels": np.array([[1, 1, 0]]),
    "mask": np.array([[1, 1, 0]], "float32"),
}


def found(*rows):
    return [np.array(rows, float).reshape(-1, 6)]


def test_overlaps_are_intersections_over_unions():
    first = np.array([[0, 0, 10, 10], [5, 0, 15, 10]], float)
    second = np.array([[0, 0, 10, 10], [100, 100, 101, 101]], float)
    np.testing.assert_allclose(metrics.overlaps(first, second), [[1, 0], [50 / 150, 0]])


def test_average_precision_is_the_mean_of_101_points():
    # Right, wrong, right: precision 1 up to half of the recall, 2/3 behind it.
    detections = found([0, 0, 10, 10, 0.9, 1], [50, 50, 60, 60, 0.8, 1], [20, 20, 30, 30, 0.7, 1])
    (value,) = metrics.average_precisions(detections, TARGETS, [0.5])
    assert value == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_shape_is_found_once():
    twice = found([0, 0, 10, 10, 0.9, 1], [0, 0, 10, 10, 0.8, 1])
    (value,) = metrics.average_precisions(twice, TARGETS, [0.5])
    assert value == pytest.approx(51 / 101)  # one of two shapes, and no precision beyond it


def test_overlap_below_the_threshold_and_another_class_are_wrong():
    shifted = found([0, 0, 10, 6, 0.9, 1], [20, 20, 30, 30, 0.8, 1])  # 0.6 of the union
    values = metrics.average_precisions(shifted, TARGETS, [0.5, 0.6, 0.65])
    # Then first wrong, second right: half of the shapes at a precision of a half.
    np.testing.assert_allclose(values, [1, 1, 51 / 2 / 101])
    other = found([0, 0, 10, 10, 0.9, 2], [20, 20, 30, 30, 0.8, 0])
    assert metrics.average_precisions(other, TARGETS, [0.5]) == [0.0]
    assert metrics.average_precisions(found(), TARGETS, [0.5]) == [0.0]


def test_scores_are_sorted_over_all_images():
    targets = {
        "boxes": np.repeat(BOXES[:, :1], 2, axis=0),
        "labels": np.array([[3], [3]]),
        "mask": np.ones((2, 1)),
    }
    wrong, right = [50, 50, 60, 60, 0.9, 3], [0, 0, 10, 10, 0.5, 3]
    detections = [found(wrong)[0], found(right)[0]]
    (value,) = metrics.average_precisions(detections, targets, [0.5])
    assert value == pytest.approx(51 * 0.5 / 101)


def test_scenes_have_shapes_where_their_boxes_are_and_none_touch():
    images, targets = shape_scenes.scenes(20, 64, 3)
    again, _ = shape_scenes.scenes(20, 64, 3)
    np.testing.assert_array_equal(images, again)
    assert images.shape == (20, 64, 64, 3) and images.min() >= 0 and images.max() <= 1
    assert (targets["mask"].sum(1) >= 1).all()
    assert set(targets["labels"][targets["mask"] > 0]) == set(range(4))
    for boxes, mask in zip(targets["boxes"], targets["mask"]):
        own = boxes[mask > 0]
        assert (own[:, :2] >= 0).all() and (own[:, 2:] <= 64).all()
        assert (own[:, 2:] - own[:, :2] >= 8).all()
        assert metrics.overlaps(own, own) == pytest.approx(np.eye(len(own)))


def test_the_truth_itself_has_an_average_precision_of_one():
    _, targets = shape_scenes.scenes(10, 64, 0)
    truth = [
        np.column_stack([boxes, np.ones(len(boxes)), labels])[mask > 0]
        for boxes, labels, mask in zip(targets["boxes"], targets["labels"], targets["mask"])
    ]
    np.testing.assert_allclose(metrics.average_precisions(truth, targets), np.ones(10))


def test_a_picture_of_detections_has_a_row_for_each_model():
    images, _ = shape_scenes.scenes(2, 64, 0)
    detections = [np.array([[1, 2, 30, 40, 0.9, 1], [0, 0, 5, 5, 0.1, 0]])] * 2
    figure = metrics.figure(images, {"a": detections, "b": detections}, shape_scenes.CLASSES, "t")
    assert len(figure.axes) == 4
    assert [len(ax.patches) for ax in figure.axes] == [1] * 4  # the doubtful one is left out
    assert figure.axes[0].texts[0].get_text() == "ring 0.90"
