"""Shapes, against pycocotools (golden/pycocotools_masks.py), matplotlib, and cases done by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from scipy.ndimage import binary_dilation

from onnxplain.contract import OnnxplainError
from onnxplain.evaluation.data.shapes import decode, polygon, runs

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pycocotools.json").read_text())
SIZE = tuple(GOLDEN["size"])
MASKS = np.array([[[value == "1" for value in row] for row in mask] for mask in GOLDEN["masks"]])
ENCODED = list(zip(GOLDEN["counts"], MASKS, strict=False))
POLYGONS = list(zip(GOLDEN["polygons"], MASKS[len(ENCODED) :], strict=True))


@pytest.mark.parametrize(("counts", "mask"), ENCODED)
def test_compressed_runs_are_those_of_pycocotools(counts, mask):
    np.testing.assert_array_equal(runs(counts, SIZE), mask)


def test_runs_by_hand():
    """Down the columns, background first."""
    expected = [[0, 0, 1], [1, 0, 1]]
    np.testing.assert_array_equal(runs([1, 1, 2, 2], (2, 3)), np.array(expected, bool))
    np.testing.assert_array_equal(runs([0, 6], (2, 3)), np.ones((2, 3), bool))
    assert decode("1122") == [1, 1, 2, 3]  # from the fourth number on differences to the last but one


@pytest.mark.parametrize("counts", [[1, 1], [7], [-1, 7], "11", "1122o", [[1, 5]]])
def test_runs_of_another_size_are_refused(counts):
    with pytest.raises(OnnxplainError, match="run-length encoding"):
        runs(counts, (2, 3))


def random_polygon(seed):
    return np.random.default_rng(seed).uniform(-5, 50, 2 * (3 + seed)).tolist()


@pytest.mark.parametrize("points", [*GOLDEN["polygons"][::2], *map(random_polygon, (0,))])
def test_pixels_are_in_polygons_by_their_centres(points):
    centres = np.stack(np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5), axis=-1).reshape(-1, 2)
    expected = Outline(np.reshape(points, (-1, 2))).contains_points(centres).reshape(SIZE)
    np.testing.assert_array_equal(polygon(points, SIZE), expected)
    assert expected.any()


def slow_polygon(points, size):
    """From each centre to the left, counting the edges that are crossed."""
    corners = list(zip(points[::2], points[1::2], strict=True))
    inside = np.zeros(size, bool)
    for row, column in np.ndindex(size):
        y, x = row + 0.5, column + 0.5
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            if (y0 > y) != (y1 > y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                inside[row, column] ^= True
    return inside


@pytest.mark.parametrize("seed", range(4))
def test_polygons_that_cross_themselves_against_loops(seed):
    points = random_polygon(seed)
    np.testing.assert_array_equal(polygon(points, SIZE), slow_polygon(points, SIZE))


@pytest.mark.parametrize(("points", "mask"), POLYGONS)
def test_polygons_are_those_of_pycocotools_but_for_the_border(points, mask):
    ours = polygon(points, SIZE)
    around = binary_dilation(ours, np.ones((3, 3))) & binary_dilation(~ours, np.ones((3, 3)))
    assert not ((ours != mask) & ~around).any() and (ours != mask).mean() < 0.05


def test_a_rectangle_holds_the_centres_in_it():
    mask = polygon([1, 1, 3.4, 1, 3.4, 2.6, 1, 2.6], (4, 5))
    assert mask[1:3, 1:3].all() and mask.sum() == 4
