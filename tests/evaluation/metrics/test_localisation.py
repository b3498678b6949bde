"""Localisation, against loops over pixels and cases done by hand."""

import numpy as np
import pytest

from onnxplain.evaluation.metrics.localisation import ROWS, mass, pointing_game, rank
from tests.helpers.judged import judged

OBJECT = np.zeros((6, 8), np.uint8)
OBJECT[1:4, 2:5] = 1


def values(heatmap, mask=OBJECT):
    return [function(judged(heatmap, mask))[0] for function in (pointing_game, mass, rank)]


@pytest.mark.parametrize(
    ("heatmap", "expected"),
    [
        (OBJECT, [1, 1, 1]),
        (-1.0 * OBJECT, [0, 0, 0]),  # nothing is positive
        (np.full((6, 8), 0.3), [9 / 48, 9 / 48, 9 / 48]),
        (np.zeros((6, 8)), [9 / 48, 0, 9 / 48]),
        (np.eye(6, 8, k=1), [3 / 6, 3 / 6, 3 / 9 + 3 / 9 * 6 / 42]),  # 6 pixels, 3 inside; 3 more of 42 zeros, 6 inside
    ],
    ids=["mask", "negative", "constant", "zero", "diagonal"],
)
def test_cases_done_by_hand(heatmap, expected):
    assert values(heatmap) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("place", "expected"), [((2, 3), [1, 1, 1 / 9 + 8 / 9 * 8 / 47]), ((0, 0), [0, 0, 8 / 9 * 9 / 47])]
)
def test_one_pixel(place, expected):
    heatmap = np.zeros((6, 8))
    heatmap[place] = 2
    assert values(heatmap) == pytest.approx(expected, abs=1e-12)


def slow(heatmap, mask):
    """The three by loops, for maps without equal values."""
    pixels = [(float(v), int(m)) for v, m in zip(heatmap.ravel(), mask.ravel(), strict=True) if m != 255]
    pixels.sort(reverse=True)
    objects = sum(m for _, m in pixels)
    positive = [(v, m) for v, m in pixels if v > 0]
    return [
        float(pixels[0][1]),
        sum(v for v, m in positive if m) / sum(v for v, _ in positive),
        sum(m for _, m in pixels[:objects]) / objects,
    ]


@pytest.mark.parametrize("seed", range(5))
def test_against_loops_with_ignored_pixels(seed):
    rng = np.random.default_rng(seed)
    heatmap = rng.normal(size=(9, 7)).astype(np.float32)
    mask = rng.choice(np.array([0, 1, 255], np.uint8), (9, 7))
    assert values(heatmap, mask) == pytest.approx(slow(heatmap, mask), abs=1e-12)


def test_rank_of_equal_values_is_the_mean_over_their_orders():
    rng = np.random.default_rng(0)
    heatmap, mask = rng.integers(0, 3, (4, 5)), rng.integers(0, 2, (4, 5))
    orders = []
    for _ in range(4000):
        shuffled = rng.permutation(20)
        highest = shuffled[np.argsort(-heatmap.ravel()[shuffled], kind="stable")][: mask.sum()]
        orders.append(mask.ravel()[highest].mean())
    assert rank(judged(heatmap, mask))[0] == pytest.approx(np.mean(orders), abs=0.01)


def test_ignored_pixels_count_for_nothing():
    mask = OBJECT.copy()
    mask[0] = 255
    heatmap = OBJECT.astype(np.float32)
    heatmap[0] = 100
    assert values(heatmap, mask) == [1, 1, 1]


@pytest.mark.parametrize(
    "mask", [None, np.zeros((6, 8)), np.full((6, 8), 255)], ids=["unknown", "elsewhere", "ignored"]
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_without_an_object_there_is_no_value(row, mask):
    assert row.function(judged(OBJECT, mask)) is None and row.needs == {"mask"}
