"""Where labels stand in plots, so that they hide neither each other nor the points."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""Rectangles: [boxes, 4] of left, bottom, right, top."""

ROUNDS = 3  # how often each label is placed again, with all others where they are
HIDING, CROSSING, LEAVING = 200.0, 2.0, 400.0  # what it costs to cover, to cross, to leave the frame; by label heights
ALONG = np.linspace(0, 1, 7)  # where on a line from a point to its label it is looked whether it crosses something
SHIFTS = np.concatenate([[0.0], *([step, -step] for step in np.arange(0.5, 9, 0.5))])  # up and down
GAPS = (0.6, 1.5, 3.0, 5.0, 8.0, 12.0)  # to the right and left


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart along a line until they have that gap, as little as can be, and within the limits if they fit.

    Places that come too close become a group, evenly spaced around the mean of where its members would be.
    """
    order = np.argsort(places, kind="stable")
    room = high - low
    gap = min(gap, room / max(1, len(places) - 1))
    groups: list[tuple[float, int]] = []  # where the first of each stands, and how many there are
    for place in np.asarray(places, dtype=float)[order]:
        first, count = float(np.clip(place, low, high)), 1
        while groups and groups[-1][0] + gap * groups[-1][1] > first:
            before, members = groups.pop()
            first = (before * members + (first - gap * members) * count) / (members + count)
            count += members
            first = min(max(first, low), high - gap * (count - 1))
        groups.append((first, count))
    spaced = [first + gap * number for first, count in groups for number in range(count)]
    found = [0.0] * len(places)
    for place, number in zip(spaced, order, strict=True):
        found[number] = place
    return found


def place_labels(points: NDArray[np.float64], sizes: NDArray[np.float64], frame: Boxes) -> Boxes:
    """A place for each point's label: near it, and free or nearly so.

    Args:
        points: Their centres, [points, 2].
        sizes: The labels' widths and heights, [points, 2].
        frame: Where labels may stand, [4].

    Returns:
        The labels' places.
    """
    height = float(sizes[:, 1].max())
    dots = np.concatenate([points - height * 0.35, points + height * 0.35], axis=1)
    found = np.full((len(points), 4), np.inf)  # of those that have no place yet
    for _ in range(ROUNDS):
        for number in np.argsort(-points[:, 0], kind="stable"):
            others = np.delete(found, number, axis=0)
            choices = _around(points[number], sizes[number], height)
            line, ends = _lines(points[number], choices)
            cost = (
                np.hypot(*(ends - points[number]).T) / height
                + HIDING * _covered(choices, np.concatenate([others, dots])) / height**2
                + CROSSING * _inside(line, np.concatenate([others, np.delete(dots, number, axis=0)]))
                + LEAVING * (1 - _covered(choices, frame[None]) / sizes[number].prod())
            )
            found[number] = choices[int(np.argmin(cost))]
    return found


def _around(point: NDArray[np.float64], size: NDArray[np.float64], step: float) -> Boxes:
    """Places for a label of that size to the right and left of a point, and above and below it."""
    (x, y), (width, height) = point, size
    lefts = [left for gap in GAPS for left in (x + gap * step, x - gap * step - width)]
    beside = [(left, y + shift * step) for shift in SHIFTS for left in lefts]
    above = [(x - width / 2, y + shift * step) for shift in SHIFTS if abs(shift) >= 1]
    left, middle = np.array(beside + above).T
    return np.stack([left, middle - height / 2, left + width, middle + height / 2], axis=1)


def _lines(point: NDArray[np.float64], boxes: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines from a point to labels: [boxes, places, 2] along them, and [boxes, 2] where they end."""
    ends = np.stack([np.clip(point[0], boxes[:, 0], boxes[:, 2]), boxes[:, [1, 3]].mean(axis=1)], axis=1)
    return point + ALONG[:, None] * (ends - point)[:, None], ends


def _covered(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """How much of each box the others cover."""
    with np.errstate(invalid="ignore"):
        low = np.maximum(boxes[:, None, :2], others[None, :, :2])
        high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
        return np.asarray(np.maximum(high - low, 0).prod(axis=2).sum(axis=1))


def _inside(places: NDArray[np.float64], boxes: Boxes) -> NDArray[np.float64]:
    """How many of each line's places lie in boxes."""
    within = (boxes[:, :2] <= places[:, :, None]) & (places[:, :, None] <= boxes[:, 2:])
    return np.asarray(within.all(axis=3).sum(axis=(1, 2)), dtype=np.float64)
