"""Labels of plots do not hide each other."""

import numpy as np
import pytest

from onnxplain.evaluation.report.labels import place_labels, spread


def test_places_with_room_stay_where_they_are():
    assert spread([3.0, 1.0, 2.0], 0.5, 0, 4) == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("seed", range(5))
def test_crowded_places_are_moved_apart_in_order(seed):
    places = np.random.default_rng(seed).normal(5, 0.3, 12)
    found = np.array(spread(places, 0.5, 0, 10))
    assert (np.argsort(found) == np.argsort(places)).all()
    assert np.diff(np.sort(found)).min() >= 0.5 - 1e-9 and found.min() >= 0 and found.max() <= 10
    assert abs(found.mean() - places.mean()) < 1e-9  # none of them more than need be


def test_places_for_which_there_is_no_room_share_it():
    assert spread([1.0] * 5, 1, 0, 2) == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert spread([9.0], 1, 0, 2) == [2] and spread([], 1, 0, 2) == []


def test_labels_hide_neither_labels_nor_points_and_stay_in_the_frame():
    draw = np.random.default_rng(0)
    points = np.concatenate([draw.normal((100, 150), 25, (15, 2)), [[395, 5], [5, 295]]])
    sizes = np.stack([draw.uniform(20, 90, 17), np.full(17, 10.0)], axis=1)
    boxes = place_labels(points, sizes, np.array([0.0, 0, 400, 300]))
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], sizes)
    assert boxes.min() >= 0 and (boxes[:, 2:] <= (400, 300)).all()
    for number, (left, low, right, high) in enumerate(boxes):
        assert not [(x, y) for x, y in points if left < x < right and low < y < high]
        for other in boxes[number + 1 :]:
            assert min(right, other[2]) <= max(left, other[0]) or min(high, other[3]) <= max(low, other[1])
