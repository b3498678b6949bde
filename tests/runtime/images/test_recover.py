"""The inverse of placing: maps over the input, and over its patches, from maps over the image."""

import numpy as np
import pytest

from onnxplain.contract.preprocessing import CROP_MODES
from onnxplain.runtime import Preprocessing
from onnxplain.runtime.images.geometry import Placement, resize
from onnxplain.runtime.images.preprocessing import placement_of

HALVES = (0.5, 0.5, 0.5)
# Input size, patches, crop_pct
INPUTS = [((224, 224), (14, 14), 0.875), ((96, 160), (6, 10), 0.9), ((70, 42), (5, 3), 1.0)]
SHAPES = [(480, 640), (1200, 700), (300, 301), (97, 100)]


def _placement(shape, size, crop_pct, crop_mode="center"):
    return placement_of(shape, Preprocessing(size, HALVES, HALVES, crop_pct, crop_mode))


@pytest.mark.parametrize(("size", "grid", "crop_pct"), INPUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize(("dtype", "close"), [(np.float32, 1e-5), (np.float64, 1e-6)])
def test_patches(size, grid, crop_pct, shape, crop_mode, dtype, close):
    placement = _placement(shape, size, crop_pct, crop_mode)
    tokens = np.random.default_rng(0).normal(size=grid).astype(dtype)
    placed = placement.place(resize(tokens, size), outside=7.0)
    given = placement.recover(placed, grid)
    assert given.dtype == dtype
    np.testing.assert_allclose(given, tokens, rtol=0, atol=close * np.abs(tokens).max())


@pytest.mark.parametrize(("size", "grid", "crop_pct"), INPUTS)
def test_pixels_of_a_larger_image(size, grid, crop_pct):
    placement = _placement((900, 1100), size, crop_pct)
    values = np.random.default_rng(0).normal(size=size)
    given = placement.recover(placement.place(values), size)
    np.testing.assert_allclose(given, values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 9), (20, 30), (60, 400), (150, 100)])
@pytest.mark.parametrize("by_pixel", [False, True])
def test_small_images_and_padding(crop_mode, shape, by_pixel):
    """Where not everything shows: the same map over the image, and no values that this does not suggest."""
    size, grid = (224, 224), (14, 14)
    placement = _placement(shape, size, 0.9, crop_mode)
    grid = size if by_pixel else grid
    values = np.random.default_rng(0).uniform(1, 2, size=grid)
    placed = placement.place(resize(values, size))
    given = placement.recover(placed, grid)
    again = placement.place(resize(given, size))
    np.testing.assert_allclose(again, placed, rtol=0, atol=1e-4)
    assert given.min() > 0 and given.max() < 3


def test_what_the_model_did_not_see_is_not_read():
    placement = Placement((10, 12), (10, 12), (1, 2), (8, 8))
    placed = np.full((10, 12), np.nan)
    placed[placement.seen] = 3.0
    np.testing.assert_allclose(placement.recover(placed, (2, 2)), 3.0, atol=1e-6)
